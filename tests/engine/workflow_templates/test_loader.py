"""The gallery: every workflow in it is right, says what it is, and takes the inputs that it shows."""

import pytest

from engine.nodes.registry import load_node_types
from engine.sdk.node_types import NodeTypes
from engine.validation.validator import validate
from engine.values.json_schema import mismatches
from engine.workflow_templates.loader import WorkflowTemplate, available_templates, workflow_templates

TYPES = load_node_types()


@pytest.mark.parametrize("template", workflow_templates(), ids=lambda template: template.name)
def test_a_template_is_a_valid_workflow_that_fits_its_own_example(template: WorkflowTemplate) -> None:
    report = validate(template.spec, TYPES)
    assert (report.errors, report.warnings) == ([], [])
    assert mismatches(template.example_inputs, template.spec["inputs"], "inputs") == []
    assert all(node.get("label") and node.get("position") for node in template.spec["nodes"])
    assert template.title and template.description.endswith(".")


def test_there_are_enough_to_start_from() -> None:
    wanted = {"support_triage", "answer_from_documents", "document_approval", "webhook_enrichment", "agent_with_tools"}
    assert wanted | {"map_reduce_summary"} <= {template.name for template in available_templates(TYPES)}


def test_one_whose_node_types_are_missing_is_not_offered() -> None:
    without = NodeTypes([kind for name, kind in TYPES.items() if name != "agent"])
    left = {template.name for template in workflow_templates()} - {
        template.name for template in available_templates(without)
    }
    assert left == {"agent_with_tools"}
