"""A home router's UPnP, for the tests: says over SSDP that it is there, and forwards by iptables the ports that it is asked for.

    upnp_router.py PRIVATE_IP PUBLIC_IP
"""

import re
import socket
import struct
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

PORT = 5000
SERVICE = "urn:schemas-upnp-org:service:WANIPConnection:1"
DESCRIPTION = f"""<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device><serviceList><service>
<serviceType>{SERVICE}</serviceType><controlURL>/control</controlURL></service></serviceList></device></root>"""
ANSWER = """<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>%s</s:Body></s:Envelope>"""


def answer_searches(private_ip):
    group = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    group.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    group.bind(("", 1900))
    member = socket.inet_aton("239.255.255.250") + socket.inet_aton(private_ip)
    group.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("8s", member))
    print("offered", flush=True)
    while True:
        question, asker = group.recvfrom(2048)
        if b"M-SEARCH" in question:
            group.sendto(f"HTTP/1.1 200 OK\r\nLOCATION: http://{private_ip}:{PORT}/root.xml\r\n\r\n".encode(), asker)


def forward(protocol, port, to):
    match = f"-p {protocol} --dport {port}".split()
    for rule in (
        ["-t", "nat", "-A", "PREROUTING", "-i", "public", *match, "-j", "DNAT", "--to-destination", f"{to}:{port}"],
        ["-I", "FORWARD", "-i", "public", "-d", to, *match, "-j", "ACCEPT"],
    ):
        subprocess.run(["iptables", "-w", *rule], check=True)


class Control(BaseHTTPRequestHandler):
    public_ip = None

    def do_GET(self):
        self.answer(DESCRIPTION)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        action = self.headers["SOAPAction"].strip('"').split("#")[1]
        if action == "GetExternalIPAddress":
            return self.answer(ANSWER % f"<NewExternalIPAddress>{self.public_ip}</NewExternalIPAddress>")
        named = dict(re.findall(r"<(New\w+)>([^<]*)</", body))
        print(action, named["NewProtocol"], named["NewInternalClient"], named["NewExternalPort"], flush=True)
        forward(named["NewProtocol"].lower(), named["NewExternalPort"], named["NewInternalClient"])
        self.answer(ANSWER % "")

    def answer(self, text):
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


if __name__ == "__main__":
    private_ip, Control.public_ip = sys.argv[1:]
    server = HTTPServer((private_ip, PORT), Control)
    threading.Thread(target=answer_searches, args=[private_ip], daemon=True).start()
    server.serve_forever()
