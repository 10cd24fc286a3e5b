import functools

import grimp


def test_the_longest_chain_of_imports_has_eight_modules():
    graph = grimp.build_graph("zoo", exclude_type_checking_imports=True)

    @functools.cache
    def longest(module: str) -> tuple[str, ...]:  # a circle is a RecursionError
        below = map(longest, graph.find_modules_directly_imported_by(module))
        return (module, *max(below, key=len, default=()))

    assert len(max(map(longest, graph.modules), key=len)) <= 8
