"""Component `ended`."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def ended(root: str, report: dsl.Output[dsl.Markdown], status: dsl.PipelineTaskFinalStatus) -> str:
    """Reports the run's outcome and reason, as the last step: promoted, challenger, refused, succeeded or failed."""
    import os
    import sys
    from pathlib import Path

    from echoplane.stages import ended
    from echoplane.stages.step import RUN_VARIABLE

    run = os.environ.get(RUN_VARIABLE) or status.pipeline_job_resource_name
    outcome, text = ended.run(ended.Config(root=root, run=run, state=status.state))
    Path(report.path).write_text(text)
    sys.stdout.write(text)
    return outcome
