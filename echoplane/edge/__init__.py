"""Roll-out of bundles to edge devices: what the publisher and the devices share, and the publisher itself.

rollout     the signed plan of a channel: which bundle each device should serve, by rings
fleet       reports of devices
policy      whether a roll-out is halted, widened, or waits
fleet_view  the view of the fleet; fleet_page and fleet_metrics write it as a page and for Prometheus
identity    invitations, certificate requests and signed reports
enrolment   the authority that gives invited devices certificates
keys        signing keys as files
repository  the repository of The Update Framework (TUF) that holds bundles and plans
publish     operations of the command `echoplane edge`
upload      a copy of the repository in a folder or an object store

Devices import only `rollout`, `fleet` and `identity`; the agent is `serving/edge`.
"""
