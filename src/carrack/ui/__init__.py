"""`carrack ui`: containers, their logs and what they use, in one full screen. A program of its own, `python -m carrack.ui`.

It needs Textual (`pip install carrack[ui]`) and knows the API only, so that it works on any engine that the command line reaches.
"""
