"""Sample specs: chains, branches, joins and loops, with quick and with launched nodes."""

from typing import Any

from tests.executor_worker import edges, node

SPECS: dict[str, Any] = {
    "quick chain": {"nodes": [node(n) for n in "abcd"], "edges": edges("a>b b>c c>d")},
    "launched chain": {"nodes": [node(n, "tick") for n in "abcd"], "edges": edges("a>b b>c c>d")},
    "branches of both kinds that join": {
        "nodes": [node("a"), node("b", "tick", 3), node("b2"), node("c"), node("c2", "tick"), node("c3"), node("j")],
        "edges": edges("a>b b>b2 a>c c>c2 c2>c3 b2>j c3>j"),
    },
    "a loop with a launched node, beside a slow branch": {
        "nodes": [node("s"), node("h"), node("w", "tick", 2), node("x"), node("slow", "tick", 40), node("end")],
        "edges": edges("s>h h>w w>h w>x s>slow slow>end x>end", w_h="w.output < 4", w_x="w.output >= 4"),
    },
    "nested loops with dead branches": {
        "nodes": [node("o"), node("i", "tick"), node("k"), node("dead"), node("e", "tick"), node("x")],
        "edges": edges(
            "__start__>o o>i i>k k>i k>dead k>e dead>x e>o e>x",
            k_i="k.output % 3 != 0",
            k_dead="false",
            k_e="k.output % 3 == 0",
            e_o="e.output < 2",
            e_x="e.output >= 2",
        ),
    },
    "join any over launched nodes": {
        "nodes": [node("a"), node("b", "tick", 20), node("c", "tick"), node("j", join="any"), node("z")],
        "edges": edges("a>b a>c b>j c>j j>z"),
    },
}
