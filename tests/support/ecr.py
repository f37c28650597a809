"""What the emulator of ECR lacks: a registry behind it. Its answers are edited to be those of a real one."""

import base64
import http.client
import json

from support.cloud_proxy import refusal

PASSWORD = "a-login-of-12-hours"
HTPASSWD = "AWS:$2y$05$QYx0u1n3kq7Zs5vT8mB2KeIrbQyQ7dBTW31pyZP0NTbqd6hpYOuXS\n"
"""The line of that password (bcrypt), as docker-registry wants it."""

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Ecr:
    """``edit`` is for a Proxy. ``password`` is what GetAuthorizationToken gives; the registry takes PASSWORD alone.

    ``manifest`` is what DescribeImages says that the images are.
    """

    def __init__(self, address):
        self.address, self.password, self.manifest = address, PASSWORD, _MANIFEST

    @property
    def token(self):
        return base64.b64encode(f"AWS:{self.password}".encode()).decode()

    def edit(self, call, body, answer):
        status, _, content = answer
        service, _, operation = call.partition(":")
        if service != "ecr" or (status != 200 and operation != "DescribeImages"):
            return answer
        asked, found = json.loads(body), json.loads(content)
        match operation:
            case "GetAuthorizationToken":
                login = {"authorizationToken": self.token, "proxyEndpoint": f"http://{self.address}"}
                found["authorizationData"] = [found["authorizationData"][0] | login]
            case "CreateRepository":
                self._place(found["repository"])
            case "DescribeRepositories":
                for repository in found["repositories"]:
                    self._place(repository)
            case "DescribeImages":
                if "RepositoryNotFoundException" in content.decode():
                    return answer
                name, tag = asked["repositoryName"], asked["imageIds"][0]["imageTag"]
                digest = self.digest(name, tag)
                if digest is None:
                    return refusal("ecr", "ImageNotFoundException", "no such image")
                image = {"repositoryName": name, "imageDigest": digest, "imageTags": [tag]}
                image["imageManifestMediaType"] = self.manifest
                status, found = 200, {"imageDetails": [image]}
        return status, [("Content-Type", "application/x-amz-json-1.1")], json.dumps(found).encode()

    def _place(self, repository):
        repository["repositoryUri"] = f"{self.address}/{repository['repositoryName']}"

    def digest(self, name, tag):
        """The digest of a tag in the registry, or None."""
        login = base64.b64encode(f"AWS:{PASSWORD}".encode()).decode()
        connection = http.client.HTTPConnection(self.address, timeout=10)
        headers = {"Accept": _MANIFEST, "Authorization": f"Basic {login}"}
        connection.request("HEAD", f"/v2/{name}/manifests/{tag}", headers=headers)
        answer = connection.getresponse()
        connection.close()
        assert answer.status in (200, 404), answer.status
        return answer.headers["Docker-Content-Digest"] if answer.status == 200 else None
