"""Frames in which anything is something else: for whoever must put up with them."""

import copy

ODD = [None, True, -1, 0, 7, 2**62, 2**70, 1.5, "\ud800", [], {"x": 1}]


def altered(plain):
    """Yield a JSON document with each of its values replaced by each odd one."""
    for place in places_of(plain):
        for odd in ODD:
            changed = inside = copy.deepcopy(plain)
            for name in place[:-1]:
                inside = inside[name]
            inside[place[-1]] = odd
            yield changed


def places_of(plain, path=()):
    """Yield where every value of a JSON document stands."""
    if path:
        yield path
    inner = plain.items() if isinstance(plain, dict) else enumerate(plain)
    for name, value in inner:
        if isinstance(value, (dict, list)):
            yield from places_of(value, (*path, name))
        else:
            yield (*path, name)
