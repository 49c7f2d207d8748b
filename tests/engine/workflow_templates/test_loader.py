"""Every workflow template is valid, has a description, and accepts its example inputs."""

import pytest

from engine.nodes.registry import load_node_types
from engine.sdk.node_types import NodeTypes
from engine.validation.validator import validate
from engine.values.json_schema import mismatches
from engine.workflow_templates.loader import WorkflowTemplate, available_templates, workflow_templates

TYPES = load_node_types()


@pytest.mark.parametrize("template", workflow_templates(), ids=lambda template: template.name)
def test_a_template_is_a_valid_workflow_and_accepts_its_example_inputs(template: WorkflowTemplate) -> None:
    report = validate(template.spec, TYPES)
    assert (report.errors, report.warnings) == ([], [])
    assert mismatches(template.example_inputs, template.spec["inputs"], "inputs") == []
    assert all(node.get("label") and node.get("position") for node in template.spec["nodes"])
    assert template.title and template.description.endswith(".")


def test_the_documented_templates_are_available() -> None:
    expected = {
        "support_triage",
        "answer_from_documents",
        "document_approval",
        "webhook_enrichment",
        "agent_with_tools",
    }
    assert expected | {"map_reduce_summary"} <= {template.name for template in available_templates(TYPES)}


def test_a_template_with_a_missing_node_type_is_not_available() -> None:
    without = NodeTypes([kind for name, kind in TYPES.items() if name != "agent"])
    unavailable = {template.name for template in workflow_templates()} - {
        template.name for template in available_templates(without)
    }
    assert unavailable == {"agent_with_tools"}
