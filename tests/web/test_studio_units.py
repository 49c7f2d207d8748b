"""The unit tests of the studio, by Vitest: edits of a spec, undo, merge, the states of a draft, forms."""

import subprocess

from web.build import WEB, install, machine_node, wheel_node


def test_the_units_of_the_studio_pass_their_tests() -> None:
    node = machine_node() or wheel_node()
    install(WEB, node)
    command = [str(node.program), "node_modules/vitest/vitest.mjs", "run", "--reporter=dot"]
    result = subprocess.run(command, cwd=WEB, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
