"""An MCP server on standard input and output that lists enough tools and says yes to whatever is called."""

import json
import sys

TOOLS = ["p2p_taskqueue_submit", *(f"tool_{number}" for number in range(70))]

for line in sys.stdin:
    request = json.loads(line)
    method = request.get("method")
    if method == "initialize":
        info = {"name": "agreeable", "version": "1"}
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
    elif method == "tools/list":
        result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
    elif method == "tools/call":
        yes = {"status": "completed"}
        result = {"content": [{"type": "text", "text": json.dumps(yes)}], "structuredContent": yes}
    else:
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}), flush=True)
