"""Names inside an instance's firewall table that carrackd and the process which guards the table for it agree on."""

TOKEN_SET = "transactions"
"""The set by whose element a transaction is known as ours."""
USER_CHAIN = "user"
"""The administrator's own chain."""
