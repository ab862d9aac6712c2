"""The agent of an edge device: it follows the signed plan of its channel, and the service always has a bundle.

settings   settings of a device, from the environment
state      what a device remembers: its id, refused bundles, the last change, the newest time it has seen
identity   the device's key and certificate, by an invitation
trust      python-tuf decides which bundle is valid for the device
download   HTTP downloads that resume
slots      bundles on disk by their id; the link that the service reads is replaced atomically
check      the bundle is opened in a process of its own before it may serve
agent      one cycle: plan, download, check, swap or return, report
service_log  counts of what the service answers
feedback_counts  how often people find the answers wrong
sync       reports and spooled results to the installation
"""
