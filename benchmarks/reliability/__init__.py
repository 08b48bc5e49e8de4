"""`python -m benchmarks.reliability`: processes that are killed at random, and a world that fails them.

Everything is real: processes of the product on a home and a workspace of their own, SIGKILL to the whole process group,
full disks, files that are cut, clocks that jump. Afterwards the home is opened anew, and what the killed process had
acknowledged must be there, what it had not must be there whole or not at all, and nothing may have been done twice.
"""
