"""The manifests under k8s/ against the schemas of Kubernetes, offline, and against what we promise about them.

Needs the packages of scripts/requirements.txt; `make test` brings them.
"""

import copy
import tomllib
import unittest
from pathlib import Path

import kubernetes_validate
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "k8s"
# The oldest release that is promised to work, and the newest that the schemas know.
VERSIONS = ["1.32.0", kubernetes_validate.latest_version()]


def load(name):
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def manifests():
    names = sorted(path.name for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
    return {name: load(name) for name in names}


def validate(manifest, version):
    kubernetes_validate.validate(manifest, version, strict=True)


def changed(manifest, path, value):
    """A copy with `value` at `path`; None removes what stands there."""
    manifest = copy.deepcopy(manifest)
    place = manifest
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return manifest


class Schemas(unittest.TestCase):
    def test_every_manifest_fits_its_schema(self):
        for version in VERSIONS:
            for name, manifest in manifests().items():
                with self.subTest(name, version=version):
                    validate(manifest, version)

    def test_wrong_manifests_are_caught(self):
        container = ["spec", "template", "spec", "containers", 0]
        cases = [
            ("statefulset.yaml", ["spec", "replica"], 3),
            ("statefulset.yaml", ["spec", "replicas"], "three"),
            ("statefulset.yaml", ["spec", "selector"], None),
            ("statefulset.yaml", [*container, "securityContext", "readOnlyRootFileSystem"], True),
            ("statefulset.yaml", [*container, "livenessProbe", "exec", "command"], "nodectl status"),
            ("networkpolicy.yaml", ["spec", "ingress", 0, "port"], 4001),
            ("poddisruptionbudget.yaml", ["spec", "maxUnavailable"], [1]),
            ("service.yaml", ["spec", "ports", 0, "port"], "4001"),
            ("config.yaml", ["data", "number"], 1),
        ]
        for name, path, value in cases:
            with self.subTest(name, path=path):
                with self.assertRaises(kubernetes_validate.ValidationError):
                    validate(changed(load(name), path, value), VERSIONS[0])


class Promises(unittest.TestCase):
    def setUp(self):
        self.pod = load("statefulset.yaml")["spec"]["template"]["spec"]
        self.containers = self.pod["initContainers"] + self.pod["containers"]

    def test_kustomization_names_every_manifest_but_the_example(self):
        named = set(load("kustomization.yaml")["resources"])
        self.assertEqual(named, set(manifests()) - {"cluster-key.example.yaml"})

    def test_pods_run_locked_down(self):
        context = self.pod["securityContext"]
        self.assertTrue(context["runAsNonRoot"])
        self.assertGreater(context["runAsUser"], 0)
        self.assertEqual(context["seccompProfile"], {"type": "RuntimeDefault"})
        for container in self.containers:
            own = container["securityContext"]
            self.assertEqual(own["capabilities"], {"drop": ["ALL"]})
            self.assertTrue(own["readOnlyRootFilesystem"])
            self.assertFalse(own["allowPrivilegeEscalation"])
            self.assertIn("memory", container["resources"]["limits"])

    def test_no_token_reaches_a_pod(self):
        self.assertFalse(self.pod["automountServiceAccountToken"])
        self.assertFalse(load("serviceaccount.yaml")["automountServiceAccountToken"])

    def test_every_pod_has_its_own_volume_and_every_mount_a_source(self):
        spec = load("statefulset.yaml")["spec"]
        sources = {volume["name"] for volume in self.pod["volumes"]}
        sources |= {claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]}
        mounts = {mount["name"] for container in self.containers for mount in container["volumeMounts"]}
        self.assertEqual(mounts, sources)
        self.assertIn("data", mounts)

    def test_all_parts_select_the_same_pods(self):
        labels = load("statefulset.yaml")["spec"]["template"]["metadata"]["labels"]
        selectors = [
            load("statefulset.yaml")["spec"]["selector"]["matchLabels"],
            load("service.yaml")["spec"]["selector"],
            load("poddisruptionbudget.yaml")["spec"]["selector"]["matchLabels"],
            load("networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"],
        ]
        self.assertTrue(all(selector == labels for selector in selectors), selectors)

    def test_configuration_finds_every_pod_and_knows_its_mounts(self):
        service = load("service.yaml")
        config = tomllib.loads(load("config.yaml")["data"]["node.toml"])
        port = next(port["port"] for port in service["spec"]["ports"] if port["protocol"] == "TCP")
        self.assertEqual(config["dns"], [f"{service['metadata']['name']}:{port}"])
        self.assertIn(f"/ip4/0.0.0.0/tcp/{port}", config["listen"])
        # A service with an address of its own would lead to one pod, and to none before it is ready.
        self.assertEqual(service["spec"]["clusterIP"], "None")
        self.assertTrue(service["spec"]["publishNotReadyAddresses"])
        self.assertEqual(load("statefulset.yaml")["spec"]["serviceName"], service["metadata"]["name"])
        node = self.pod["containers"][0]
        mounted = [mount["mountPath"] for mount in node["volumeMounts"]]
        for path in [config["data_dir"], config["control"], config["cluster_key"]]:
            self.assertTrue(any(path.startswith(mount) for mount in mounted), path)
        self.assertIn(config["control"], node["livenessProbe"]["exec"]["command"])
        secret = load("cluster-key.example.yaml")
        self.assertEqual(secret["metadata"]["name"], self.pod["volumes"][1]["secret"]["secretName"])

    def test_only_nodes_and_the_name_service_are_reached(self):
        spec = load("networkpolicy.yaml")["spec"]
        self.assertEqual(sorted(spec["policyTypes"]), ["Egress", "Ingress"])
        ports = {port["port"] for rule in spec["ingress"] + spec["egress"] for port in rule["ports"]}
        self.assertEqual(ports, {53, 4001})
        self.assertTrue(all(rule.get("from") or rule.get("to") for rule in spec["ingress"] + spec["egress"]))


if __name__ == "__main__":
    unittest.main()
