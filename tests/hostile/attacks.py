"""All attacks of `make hostile`, by name, in the order of the table."""

from collections.abc import Awaitable, Callable

from tests.hostile import boundaries, clients, disclosure, floods, operations, peers, turns
from tests.hostile.deployment import AttackedDeployment
from tests.hostile.report import AttackResult, codes

Attack = Callable[[AttackedDeployment], Awaitable[AttackResult]]


def _on_turns(attack: turns.Attack) -> Attack:
    async def adapted(target: AttackedDeployment) -> AttackResult:
        return AttackResult(codes(await attack(target.execute)))

    return adapted


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        peers.answer_falsely,
        peers.lie_as_models,
        peers.lie_as_mcp_servers,
        disclosure.repeat_secrets,
    )
}
ATTACKS |= {name: _on_turns(attack) for name, attack in turns.ATTACKS.items()}
ATTACKS |= {
    attack.__name__: attack
    for attack in (
        floods.flood_the_queue,
        floods.flood_with_quick_runs,
        floods.run_many_nodes,
        floods.write_large_values,
        boundaries.inherit_descriptors,
        boundaries.leave_session_state,
        boundaries.write_pickles,
        boundaries.write_malformed_entries,
        disclosure.name_secrets_in_hosts,
        boundaries.send_from_other_sites,
        clients.open_many_sockets,
        clients.open_sockets_again_and_again,
        clients.flood_the_probes,
        boundaries.read_files_of_the_host,
        disclosure.branch_on_secrets,
        boundaries.reach_other_projects,
        boundaries.watch_deleted_workflows,
        boundaries.rotate_keys_under_load,
        boundaries.call_tools_beyond_scopes,
        disclosure.forge_log_lines,
        clients.send_slowly,
        clients.send_large_headers,
        clients.send_large_bodies,
        clients.send_no_http,
        operations.send_largest_bodies,
        operations.validate_largest_specs,
        operations.send_largest_messages,
        operations.start_runs_with_large_inputs,
        operations.send_worst_documents,
        operations.read_worst_pages,
    )
}
