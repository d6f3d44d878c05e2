"""Channel, server, errors to status and back, moving blobs."""

import os

# Read by grpc when it is first imported. With fork support on, a process that forks while a channel is open
# (a data loader with workers) crashes now and then; our children never use a parent's channel.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
