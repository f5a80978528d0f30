"""A server of RTSP from GStreamer, which is not ours: `/usr/bin/python3 gst_rtsp_server.py '{"videos": {...}}'`.

It runs with Debian's Python, which has GStreamer's bindings, and says its port. `videos` are an MP4 and its codec by
path; a `user` with a `password` is asked for by Digest, or by Basic where `basic` is true; `certificate` is a PEM file
for TLS.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import gi

for name in ("Gst", "GstRtsp", "GstRtspServer"):
    gi.require_version(name, "1.0")
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

PAYLOADERS = {"h264": "rtph264pay", "hevc": "h265parse ! rtph265pay"}


def authentication(options: dict[str, Any]) -> Any:
    auth = GstRtspServer.RTSPAuth()
    if "certificate" in options:
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(options["certificate"]))
    if "user" in options:
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        if options.get("basic"):
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
            auth.add_basic(auth.make_basic(options["user"], options["password"]), token)
        else:
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
            auth.add_digest(options["user"], options["password"], token)
    return auth


def main(options: dict[str, Any]) -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(options.get("port", 0)))
    for path, (file, codec) in options["videos"].items():
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(f"( filesrc location={file} ! qtdemux ! {PAYLOADERS[codec]} name=pay0 pt=96 )")
        if "user" in options:
            permissions = GstRtspServer.RTSPPermissions()
            permissions.add_role("viewer")
            permissions.add_permission_for_role("viewer", "media.factory.access", True)
            permissions.add_permission_for_role("viewer", "media.factory.construct", True)
            factory.set_permissions(permissions)
        server.get_mount_points().add_factory(path, factory)
    if "user" in options or "certificate" in options:
        server.set_auth(authentication(options))
    if server.attach(None) == 0:
        sys.exit("no port can be had")
    print(server.get_bound_port(), flush=True)  # noqa: T201 - for who started it
    GLib.MainLoop().run()


main(json.loads(sys.argv[1]))
