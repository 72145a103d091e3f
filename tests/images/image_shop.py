"""A web server that has one file, and misbehaves when it is told to."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Shop(ThreadingHTTPServer):
    """Serves one file; its attributes say how it misbehaves."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = b""
        self.mark = '"v1"'
        self.breaks: list[int] = []  # after so many bytes, once each
        self.ranges = True
        self.says: int | None = None  # this status, whatever was asked
        self.to = ""  # where it leads
        self.length: int | None = None  # claimed
        self.asked: list[str] = []  # Range headers

    def url(self, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.server_address[1]}/disk.img"


class Handler(BaseHTTPRequestHandler):
    server: Shop

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        shop = self.server
        asked = self.headers.get("Range", "")
        shop.asked.append(asked)
        if shop.says or shop.to:
            self.send_response(shop.says or 302)
            if shop.to:
                self.send_header("Location", shop.to)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        if asked and shop.ranges and self.headers.get("If-Range") == shop.mark:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(shop.data)}/{len(shop.data)}")
        else:
            self.send_response(200)
        self.send_header("ETag", shop.mark)
        self.send_header("Content-Length", str(shop.length or len(shop.data) - start))
        self.end_headers()
        data = shop.data[start:]
        if shop.breaks:
            data = data[: shop.breaks.pop(0)]
            self.close_connection = True
        self.wfile.write(data)
