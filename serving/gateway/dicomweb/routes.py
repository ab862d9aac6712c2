"""Routes of DICOMweb. A token of role `predict` stores and reads the studies of its own site, and no other's."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from serving.gateway.access import Access, Caller
from serving.gateway.dicomweb import DICOM_JSON, PATH, qido, wado
from serving.gateway.dicomweb.stow import store_instances
from serving.gateway.settings import GatewaySettings
from serving.gateway.store import Store


class DicomJson(JSONResponse):
    media_type = DICOM_JSON


def routes(store: Store, settings: GatewaySettings, access: Access) -> APIRouter:
    """Returns the routes under /dicomweb/studies."""
    router = APIRouter(prefix=PATH)
    caller = Depends(access.needs("predict"))
    _add_store(router, store, settings, caller)
    _add_search(router, store, caller)
    _add_retrieve(router, store, caller)
    return router


def _add_store(router: APIRouter, store: Store, settings: GatewaySettings, caller: Any) -> None:
    sites = tuple(settings.ae_titles.values())

    def site_of(who: Caller) -> str:
        site = who.site or sites[0]
        if site not in sites:
            raise HTTPException(403, "the token's site is not one of ECHOPLANE_GATEWAY_AE_TITLES")
        return site

    @router.post("")
    async def store_any(request: Request, who: Annotated[Caller, caller]) -> Response:
        return await store_instances(store, settings, site_of(who), request)

    @router.post("/{study}")
    async def store_study(request: Request, study: str, who: Annotated[Caller, caller]) -> Response:
        return await store_instances(store, settings, site_of(who), request, study)


def _add_search(router: APIRouter, store: Store, caller: Any) -> None:
    @router.get("", response_class=DicomJson)
    def studies(request: Request, who: Annotated[Caller, caller]) -> Response:
        return _results(qido.studies(store, who.site, qido.Query(request.query_params)))

    @router.get("/{study}/series", response_class=DicomJson)
    def series(request: Request, study: str, who: Annotated[Caller, caller]) -> Response:
        return _results(qido.series(store, who.site, qido.Query(request.query_params), study))

    @router.get("/{study}/instances", response_class=DicomJson)
    def instances(request: Request, study: str, who: Annotated[Caller, caller]) -> Response:
        return _results(qido.instances(store, who.site, qido.Query(request.query_params), study, ""))

    @router.get("/{study}/series/{series}/instances", response_class=DicomJson)
    def instances_of_series(request: Request, study: str, series: str, who: Annotated[Caller, caller]) -> Response:
        return _results(qido.instances(store, who.site, qido.Query(request.query_params), study, series))


def _results(found: list[qido.Json]) -> Response:
    return DicomJson(found) if found else Response(status_code=204)


def _add_retrieve(router: APIRouter, store: Store, caller: Any) -> None:
    for path in ("/{study}", "/{study}/series/{series}", "/{study}/series/{series}/instances/{instance}"):

        def retrieve(
            study: str, who: Annotated[Caller, caller], series: str = "", instance: str = ""
        ) -> StreamingResponse:
            return wado.files(store.find(who.site, study, series, instance))

        def metadata(study: str, who: Annotated[Caller, caller], series: str = "", instance: str = "") -> Response:
            return DicomJson(wado.metadata(store.find(who.site, study, series, instance)))

        router.get(path, response_class=StreamingResponse)(retrieve)
        router.get(f"{path}/metadata", response_class=DicomJson)(metadata)

    @router.get("/{study}/series/{series}/instances/{instance}/frames/{numbers}", response_class=StreamingResponse)
    def frames(
        study: str, series: str, instance: str, numbers: str, who: Annotated[Caller, caller]
    ) -> StreamingResponse:
        return wado.frames(store.find(who.site, study, series, instance), numbers)
