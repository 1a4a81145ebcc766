"""A module in which some functions are replaced, for the one importer that is to see them."""


class Replaced:
    """`monkeypatch.setattr(importer, "subprocess", Replaced(subprocess, run=...))`: all others keep the real one."""

    def __init__(self, module, **functions):
        self.__dict__.update(functions)
        self._module = module

    def __getattr__(self, name):
        return getattr(self._module, name)
