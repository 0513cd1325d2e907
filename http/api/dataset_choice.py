"""Which dataset a Prometheus endpoint serves: the one in the path, or, without a prefix, a rule of choice.

A gateway knows datasets by the view it was sent last, and that may be behind, or have never come. So no dataset is said
to be unknown before the coordinator was asked: a sender that hears 404 drops its samples.
"""

from __future__ import annotations

from aiohttp import web

from filoray.cluster.cluster_view import ClusterView, DatasetView
from filoray.cluster.errors import BadData, DatasetUnknown, Forbidden, NotFound
from filoray.http.access.request_access import check_dataset, identity_of, may_read
from filoray.http.server.gateway_services import GatewayServices
from filoray.http.server.parameters import Parameters


async def choose_dataset(request: web.Request, parameters: Parameters, services: GatewayServices) -> str:
    """The path's dataset; else the ``dataset`` parameter's, else the configured default, else the only one there is.

    Only what whoever asks may read is chosen by itself. Raises Forbidden where they may not do what the endpoint does,
    DatasetUnknown, NotFound when none is set up, BadData naming them when there are several and no choice, Unavailable
    when there may be one and the coordinator, who would know, is away.
    """
    name = request.match_info.get("dataset") or parameters.text("dataset") or services.config.default_dataset
    if name is None:
        datasets = services.control.view().datasets or (await services.control.newest_view()).datasets
        seen = [name for name in datasets if may_read(request, name)]
        if len(seen) > 1:
            raise BadData(
                f"there are several datasets, choose one with the parameter dataset or under /promql/{{dataset}}: "
                f"{', '.join(sorted(seen))}"
            )
        if not datasets:
            raise NotFound("no dataset is set up; POST /api/v1/cluster/{dataset} sets one up")
        if not seen:
            raise Forbidden(f"{identity_of(request).name} has no role for any dataset that is set up")
        name = seen[0]
    check_dataset(request, name)
    await dataset_view(name, services)
    return name


async def dataset_view(name: str, services: GatewayServices) -> DatasetView:
    """Raises DatasetUnknown if the coordinator knows none of that name, Unavailable if it cannot be asked."""
    view = services.control.view().datasets.get(name)
    if view is None:
        view = (await services.control.newest_view()).datasets.get(name)
    if view is None:
        raise DatasetUnknown(name)
    return view


async def first_view(services: GatewayServices) -> ClusterView:
    """The last view; where none has come yet, what the coordinator answers. Raises Unavailable."""
    view = services.control.view()
    return view if view.version else await services.control.newest_view()
