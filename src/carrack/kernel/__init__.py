"""System calls, one thin function each: no policy, errno kept, the path in the error. The only home of ctypes."""
