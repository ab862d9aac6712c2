"""Works through the queue: asks the service about complete studies, and sends the results to the peers."""

import hashlib
import json
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from serving.api.failures import log_failure
from serving.gateway import commitment, metrics, peers, queue, retention
from serving.gateway.copies import copy_study, name_requests
from serving.gateway.queue import Backoff, Work
from serving.gateway.results import Part, make_results
from serving.gateway.service import Service
from serving.gateway.settings import GatewaySettings, Rule
from serving.gateway.store import Instance, Store, Study
from serving.gateway.work_errors import GiveUp, TryAgain

log = logging.getLogger("echoplane.gateway")

POLL_S = 0.5
"""Interval at which the queue is looked at."""


class Worker:
    """A thread that looks at the queue and others that do the work; `close` lets what has begun end."""

    def __init__(self, store: Store, settings: GatewaySettings) -> None:
        self._store, self._settings = store, settings
        self._service = Service(settings)
        self._backoff = Backoff(settings.retry_first_s, settings.retry_max_s, settings.max_attempts)
        self._peers = {peer.name: peer for peer in settings.peers}
        self._steps = {"answer": self._answer, "send": self._send, "commit": self._commit}
        self._running = set[str]()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(settings.workers, "gateway-work")
        self._thread = threading.Thread(target=self._loop, name="gateway-queue", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._pool.shutdown()
        self._service.close()

    def _loop(self) -> None:
        while not self._stop.wait(POLL_S):
            try:
                self._look()
            except Exception as error:  # a full disk, say: the loop goes on once there is space
                log_failure("looking at the queue", error)

    def _look(self) -> None:
        metrics.STUDIES.inc(queue.complete_studies(self._store, self._settings.quiet_s))
        retention.remove_old(self._store, self._settings.keep_h)
        free = self._settings.workers - len(self._running)
        for work in queue.due(self._store, self._settings.workers + len(self._running)):
            if free > 0 and work.id not in self._running:
                free -= 1
                self._running.add(work.id)
                self._pool.submit(self._run, work)

    def _run(self, work: Work) -> None:
        begin = time.perf_counter()
        try:
            results = self._steps[work.kind](work)
            queue.finish(self._store, work, results)
            log.info(
                "work %s %s of study %s done in %.1f s", work.id, work.kind, work.study, time.perf_counter() - begin
            )
        except TryAgain as error:
            self._failed(work, str(error), again=True)
        except GiveUp as error:
            self._failed(work, str(error), again=False)
        except Exception as error:
            log_failure(f"work {work.id}", error)
            self._failed(work, f"unexpected error ({type(error).__name__})", again=True)
        finally:
            self._running.discard(work.id)

    def _failed(self, work: Work, reason: str, *, again: bool) -> None:
        if work.kind == "send":
            metrics.SENT.labels(work.peer, "failed").inc()
        waits = again and queue.postpone(self._store, work, reason, self._backoff)
        if not again:
            queue.set_aside(self._store, work, reason)
        log.warning("work %s %s: %s. %s", work.id, work.kind, reason, "It is tried again." if waits else "It is stuck.")

    def _answer(self, work: Work) -> list[tuple[str, Path]]:
        """Asks about every part of a study; returns the files of the results, each with the peers that get it."""
        study, instances = self._store.study(work.study), self._store.instances(work.study)
        self._copy_for_training(study, instances)
        answers = [
            (part, answer)
            for rule, part in self._parts(study.site, instances)
            for answer in self._ask(work.study, study.site, rule, part)
        ]
        self._name_requests(study, answers)
        peers_of_site = self._settings.peers_for(study.site)
        if not answers or not peers_of_site:
            return []
        paths = make_results(self._store, answers)
        return [(peer.name, path) for path in paths for peer in peers_of_site]

    def _copy_for_training(self, study: Study, instances: list[Instance]) -> None:
        rules = {one.modality: self._settings.rule_for(study.site, one.modality) for one in instances}
        wanted = [one for one in instances if (rule := rules[one.modality]) and rule.copy_for_training]
        if wanted:
            copy_study(Path(self._settings.copy_folder), study, wanted)

    def _name_requests(self, study: Study, answers: Sequence[tuple[Part, dict[str, Any]]]) -> None:
        """Lets feedback on the answers find the copies; it is never about a part of several instances."""
        if not self._settings.copy_folder:
            return
        for part in (part for part, _ in answers if len(part) == 1):
            request_ids = [answer["request_id"] for other, answer in answers if other is part]
            name_requests(Path(self._settings.copy_folder), study, part[0], request_ids)

    def _parts(self, site: str, instances: list[Instance]) -> list[tuple[Rule, list[Instance]]]:
        """Returns what is asked at once, with its rule: single instances, or all instances of one modality."""
        parts = list[tuple[Rule, list[Instance]]]()
        for modality in dict.fromkeys(instance.modality for instance in instances):
            rule = self._settings.rule_for(site, modality)
            of_modality = [instance for instance in instances if instance.modality == modality]
            if rule and rule.send == "zip":
                parts.append((rule, of_modality))
            elif rule:
                parts += [(rule, [instance]) for instance in of_modality]
        return parts

    def _ask(self, study: str, site: str, rule: Rule, part: list[Instance]) -> list[dict[str, Any]]:
        """Returns the answers to one part; they are kept, so that another attempt at the study asks only the rest."""
        key = hashlib.sha256("\n".join(instance.sop_uid for instance in part).encode()).hexdigest()
        if kept := self._store.answer(study, key):
            return json.loads(kept)
        try:
            answers = self._service.ask(site, rule, part)
        except (TryAgain, GiveUp):
            metrics.ANSWERS.labels(site, "failed").inc()
            raise
        metrics.ANSWERS.labels(site, "answered" if answers else "refused").inc()
        self._store.keep_answer(study, key, json.dumps(answers))
        return answers

    def _send(self, work: Work) -> list[tuple[str, Path]]:
        peer = self._peers.get(work.peer)
        if peer is None:
            raise GiveUp("the peer is no longer in ECHOPLANE_GATEWAY_PEERS")
        peers.send(self._store.results / work.file, peer, self._settings)
        metrics.SENT.labels(work.peer, "sent").inc()
        return []

    def _commit(self, work: Work) -> list[tuple[str, Path]]:
        peer = next((peer for peer in self._settings.peers if peer.ae_title == work.peer), None)
        if peer is None:
            raise GiveUp("the peer is no longer in ECHOPLANE_GATEWAY_PEERS")
        commitment.answer(self._store, self._store.results / work.file, peer, self._settings)
        return []
