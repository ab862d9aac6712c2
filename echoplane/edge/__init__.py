"""Roll-out of bundles to edge devices: what the publisher and the devices share, and the publisher itself.

rollout     the signed plan of a channel: which bundle each device should serve, by rings
fleet       reports of devices, the view of the fleet, and the policy that halts or widens a roll-out
keys        signing keys as files
repository  the repository of The Update Framework (TUF) that holds bundles and plans
publish     operations of the command `echoplane edge`
upload      a copy of the repository in a folder or an object store

Devices import only `rollout` and `fleet`; the agent is `serving/edge`.
"""
