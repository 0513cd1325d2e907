"""``conf/many-machines/raycluster.yaml``: a RayCluster's structure, names that fit, and the page's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray

from filoray.cluster.config.server_config import ServerConfig, load_server_config
from filoray.http.access.web_config_file import read_web_config

yaml = pytest.importorskip("yaml")
FOLDER = Path(__file__).resolve().parents[2] / "conf/many-machines"
DATABASE = "postgresql+psycopg://u:p@db:5432/d"


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    documents = list(yaml.safe_load_all((FOLDER / "raycluster.yaml").read_text()))
    return {document["kind"]: document for document in documents}


def pods(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    spec = manifest["RayCluster"]["spec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_it_is_a_ray_cluster_of_this_ray(manifest: dict[str, Any]) -> None:
    cluster = manifest["RayCluster"]
    assert cluster["apiVersion"] == "ray.io/v1"
    assert cluster["spec"]["rayVersion"] == ray.__version__
    for group in (cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values()), "Ray's arguments are texts"
    (workers,) = cluster["spec"]["workerGroupSpecs"]
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]


def test_what_it_names_it_has(manifest: dict[str, Any]) -> None:
    secret, configuration = manifest["Secret"], manifest["ConfigMap"]
    for pod in pods(manifest):
        (container,) = pod["containers"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
        assert volumes["configuration"]["configMap"]["name"] == configuration["metadata"]["name"]
        assert volumes["secret"]["secret"]["secretName"] == secret["metadata"]["name"]
        assert container["envFrom"][0]["secretRef"]["name"] == secret["metadata"]["name"]
        ports = [port["containerPort"] for port in container["ports"]]
        assert ports == [6379, 8080, 8081, 8082]


def test_its_configuration_is_the_pages(
    manifest: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILORAY_DATABASE", DATABASE)
    theirs_text = manifest["ConfigMap"]["data"]["filoray.conf"]
    access_path = "/etc/filoray-secret/web.yml"
    theirs = loaded(theirs_text, access_path, manifest["Secret"]["stringData"]["web.yml"], tmp_path)
    ours_text = (FOLDER / "filoray.conf").read_text()
    ours = loaded(ours_text, "/tmp/filoray-web.yml", manifest["Secret"]["stringData"]["web.yml"], tmp_path)
    assert theirs == ours
    assert theirs.meta_store_url == theirs.column_store_url == DATABASE
    assert theirs.has_standby
    workers = sum(group["replicas"] for group in manifest["RayCluster"]["spec"]["workerGroupSpecs"])
    assert theirs.node_count == 1 + workers
    mounts = {mount["mountPath"] for pod in pods(manifest) for mount in pod["containers"][0]["volumeMounts"]}
    assert str(Path(access_path).parent) in mounts


def loaded(text: str, access_path: str, access_text: str, directory: Path) -> ServerConfig:
    """The configuration, with the file that says who may come in where this machine may have it."""
    (directory / "web.yml").write_text(access_text)
    assert read_web_config(directory / "web.yml").tokens, "somebody may come in"
    assert access_path in text
    path = directory / "filoray.conf"
    path.write_text(text.replace(access_path, str(directory / "web.yml")))
    return load_server_config(path)
