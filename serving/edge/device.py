"""A device: the agent's cycle, then its report and its spooled results on their way to the installation."""

import logging
from typing import Any

import httpx

from echoplane.edge.fleet import Report
from echoplane.errors import explained
from serving.edge.agent import Agent
from serving.edge.identity import Identity
from serving.edge.settings import EdgeSettings, bearer
from serving.edge.sync import MIB, putter, send_report, send_results, waiting_bytes

log = logging.getLogger("echoplane.edge")

TIMEOUT_S = 30


class Device:
    """The agent with its way to the installation, by `client` if one is given. `options` are those of `Agent`."""

    def __init__(self, settings: EdgeSettings, client: httpx.Client | None = None, **options: Any) -> None:
        self.settings = settings
        self._identity = Identity(settings, **({"clock": options["clock"]} if "clock" in options else {}))
        headers = bearer(settings.token_file)
        self._client = client or httpx.Client(timeout=TIMEOUT_S, headers=headers, verify=self._identity.context)
        if problem := self._identity.keep(self._client):
            log.warning("%s", problem)
        self.agent = Agent(settings, self._client, **options)

    def cycle(self) -> Report:
        """Runs one cycle and sends what can be sent; never raises."""
        problem = self._identity.keep(self._client)
        report = self.agent.cycle()
        if problem and not report.problem:
            report = report.model_copy(update={"problem": problem})
        for send in (self._results, self._report):
            try:
                report = send(report)
            except Exception as error:  # whatever fails is sent in a later cycle
                log.warning("not sent: %s", explained(error))
        return report

    def _results(self, report: Report) -> Report:
        folder = self.settings.prediction_log
        if folder is None:
            return report
        if self.settings.results:
            put = putter(self.settings.results, self._client)
            send_results(put, self.agent.device, folder, self.agent.state.sent, self.agent.record_sent)
        return report

    def _report(self, report: Report) -> Report:
        folder = self.settings.prediction_log
        if folder is not None:
            waiting_mib = waiting_bytes(folder, self.agent.state.sent) / MIB
            report = report.model_copy(update={"waiting_mib": round(waiting_mib, 3)})
        if self.settings.reports:
            send_report(putter(self.settings.reports, self._client), report, self._identity.sealed)
        return report
