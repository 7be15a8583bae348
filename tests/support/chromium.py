"""A real browser for tests of pages and for screenshots: headless Chromium, driven by its own debugging protocol."""

import asyncio
import base64
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass

import aiohttp
import psutil

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NO_CHROMIUM = "no Chromium on this machine"
START_S, PAGE_S = 60, 90


@dataclass(frozen=True)
class Page:
    """What a page shows: its text, a PNG of it, and what the script that was run on it came to."""

    text: str
    png: bytes
    value: object = None


@contextmanager
def chromium(folder):
    """Start a browser with an empty profile in a folder; yields what `visit` needs."""
    profile = folder / "chromium"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0"]
    process = subprocess.Popen(
        [CHROMIUM, *flags, f"--user-data-dir={profile}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        port_file, end = profile / "DevToolsActivePort", time.monotonic() + START_S
        while not port_file.exists() or not port_file.read_text().strip():
            assert time.monotonic() < end, "Chromium does not start"
            assert process.poll() is None, "Chromium ended"
            time.sleep(0.1)
        yield int(port_file.read_text().splitlines()[0])
    finally:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            if member.is_running():
                member.kill()
        process.wait()


def visit(port, url, words=(), *, cookies=None, size=(1180, 900), settle_s=0.0, script="", dark=False):
    """Open a page and return it once it shows all the words, or as it is after a while; run a script on it then."""
    return asyncio.run(_visit(port, url, words, cookies or {}, size, settle_s, script, dark))


async def _visit(port, url, words, cookies, size, settle_s, script, dark):
    async with aiohttp.ClientSession() as session:
        async with session.put(f"http://127.0.0.1:{port}/json/new") as answer:
            socket = (await answer.json())["webSocketDebuggerUrl"]
        async with session.ws_connect(socket, max_msg_size=0) as tab:
            call = _caller(tab)
            for name, value in cookies.items():
                await call("Network.setCookie", name=name, value=value, url=url)
            await call(
                "Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False
            )
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            await call("Emulation.setEmulatedMedia", features=[scheme])
            await call("Page.navigate", url=url)
            text, end = "", time.monotonic() + PAGE_S
            while time.monotonic() < end:
                shown = await call("Runtime.evaluate", expression="document.body ? document.body.innerText : ''")
                text = shown["result"].get("value", "")
                if text and all(word in text for word in words):
                    break
                await asyncio.sleep(0.5)
            ran = await call("Runtime.evaluate", expression=script, returnByValue=True)
            await asyncio.sleep(settle_s)
            png = (await call("Page.captureScreenshot", format="png"))["data"]
            await call("Page.close")
            return Page(text, base64.b64decode(png), ran.get("result", {}).get("value"))


def _caller(tab):
    count = 0

    async def call(method, **params):
        nonlocal count
        count += 1
        await tab.send_json({"id": count, "method": method, "params": params})
        while True:
            message = await tab.receive_json()
            if message.get("id") == count:
                return message.get("result", {})

    return call
