"""A pytest plugin for runs on mutants: the same examples each time, and none is made smaller.

The search for the smallest failing example takes minutes, and a mutant needs any example.
"""

from hypothesis import Phase, settings

settings.register_profile("mutants", phases=(Phase.explicit, Phase.generate), derandomize=True, database=None)
settings.load_profile("mutants")
