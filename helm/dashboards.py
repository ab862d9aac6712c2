"""Grafana's JSON of the dashboards in echoplane/monitoring/prometheus_dashboards.py, by Grafana's own builders.

`make docs` writes the files into the chart. The builders are needed for that alone, not where echoplane runs.
"""

from grafana_foundation_sdk.builders import common, prometheus, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import GraphThresholdsStyleMode

from echoplane.monitoring.prometheus_dashboards import DASHBOARDS, Dashboard, Panel

WIDTH, HEIGHT = 12, 8
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
DEFAULT_RUNBOOKS = "docs/runbooks.md"


def chart_files() -> dict[str, str]:
    """Returns the JSON of each dashboard by its file name."""
    return {f"{one.uid}.json": _json(one) for one in DASHBOARDS}


def _json(dashboard: Dashboard) -> str:
    built = (
        builders.Dashboard(dashboard.title)
        .uid(dashboard.uid)
        .description("Research use, not a medical device.")
        .tags(list(dashboard.tags))
        .refresh("30s")
        .time("now-6h", "now")
        .with_variable(builders.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    if dashboard.task_metric:
        tasks = builders.QueryVariable("task").label("Task").datasource(SOURCE).include_all(True).multi(True)
        query = f"label_values({dashboard.task_metric}, task)"
        built = built.with_variable(tasks.query(query).refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED))
    built = built.with_variable(
        builders.TextBoxVariable("runbooks").label("Address of the runbooks").default_value(DEFAULT_RUNBOOKS)
    )
    for number, panel in enumerate(dashboard.panels):
        place = models.GridPos(x=WIDTH * (number % 2), y=HEIGHT * (number // 2), w=WIDTH, h=HEIGHT)
        built = built.with_panel(_panel(panel).grid_pos(place).id(number + 1))
    return JSONEncoder(sort_keys=True, indent=1).encode(built.build()) + "\n"


def _panel(panel: Panel) -> timeseries.Panel:
    link = builders.DashboardLink(f"Runbook: {panel.alert}").url(f"${{runbooks}}#{panel.alert.lower()}")
    made = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .datasource(SOURCE)
        .unit(panel.unit)
        .links([link])
        .legend(common.VizLegendOptions().show_legend(True))
    )
    if panel.limit is not None:
        steps = [models.Threshold(value=None, color="green"), models.Threshold(value=panel.limit, color="red")]
        made = made.thresholds(builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
        made = made.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    for number, (query, legend) in enumerate(panel.queries):
        made = made.with_target(prometheus.Dataquery().expr(query).legend_format(legend).ref_id(chr(ord("A") + number)))
    return made
