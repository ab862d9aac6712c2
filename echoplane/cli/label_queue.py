"""`echoplane label-queue` chooses studies for people to label; `echoplane feedback` gives the labels to training."""

import argparse

from echoplane.cli.command import report


def run_label_queue(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Writes the queue and prints how many studies it holds."""
    from echoplane.stages import label_queue
    from echoplane.stages.options import add_fields, config_of

    add_fields(parser, label_queue.Config, {"task": "TASK"})
    values = vars(parser.parse_args(arguments))
    as_json = values.pop("json")
    counts = label_queue.run(config_of(label_queue.Config, values))
    return report("label-queue", counts, as_json, queue=values["out"])


def run_feedback(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Writes the labels beside the prediction log and prints how many there were."""
    from echoplane.stages import feedback
    from echoplane.stages.options import add_fields, config_of

    add_fields(parser, feedback.Config, {"queue": "QUEUE"})
    values = vars(parser.parse_args(arguments))
    as_json = values.pop("json")
    counts = feedback.run(config_of(feedback.Config, values))
    return report("feedback", counts, as_json)
