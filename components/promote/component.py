"""Component `promote`."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def promote(
    root: str,
    bundle: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    tracking_uri: str,
    policy: str,
    decision: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    reasons: dsl.Output[dsl.HTML],
) -> None:
    """Register the bundle in MLflow and let the gate decide whether it serves; a refusal is an answer, not an error."""
    import json
    from pathlib import Path

    from echoplane.html import render
    from echoplane.stages import promote

    config = promote.Config(
        root=root,
        bundle=bundle.path,
        evaluation=evaluation.path,
        tracking_uri=tracking_uri,
        policy=policy,
    )
    manifest = promote.run(config)
    manifest.write(decision.path)
    decided = json.loads((manifest.path / "decision.json").read_text())
    metrics.log_metric("passed", float(decided["passed"]))
    rows = "{% for c in reasons %}<li>{{ 'passed' if c.passed else 'FAILED' }}: {{ c.sentence }}</li>{% endfor %}"
    Path(reasons.path).write_text(render(f"<ul>{rows}</ul>", reasons=decided["reasons"]))
