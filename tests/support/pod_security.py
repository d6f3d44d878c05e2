"""The Pod Security Standard `restricted`, as kubernetes.io/docs/concepts/security/pod-security-standards states it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"),
}
SECCOMP = {"RuntimeDefault", "Localhost"}


def violations(pod: dict[str, Any]) -> Iterator[str]:
    """Says what a pod specification does that `restricted` does not allow."""
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield key
    for volume in pod.get("volumes", []):
        if not VOLUMES & set(volume):
            yield f"volume {volume['name']} of another kind"
    outer = pod.get("securityContext", {})
    if outer.get("sysctls"):
        yield "sysctls"
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        name, inner = container["name"], container.get("securityContext", {})
        if inner.get("privileged"):
            yield f"{name}: privileged"
        if inner.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: allowPrivilegeEscalation is not false"
        if "ALL" not in inner.get("capabilities", {}).get("drop", []):
            yield f"{name}: not all capabilities are dropped"
        if set(inner.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}:
            yield f"{name}: capabilities are added"
        if inner.get("procMount", "Default") != "Default":
            yield f"{name}: procMount"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"{name}: hostPort"
        if inner.get("runAsNonRoot", outer.get("runAsNonRoot")) is not True:
            yield f"{name}: runAsNonRoot is not true"
        if inner.get("runAsUser", outer.get("runAsUser")) == 0:
            yield f"{name}: runs as root"
        profile = inner.get("seccompProfile", outer.get("seccompProfile", {})).get("type")
        if profile not in SECCOMP:
            yield f"{name}: seccompProfile {profile}"
