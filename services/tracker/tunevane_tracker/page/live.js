// Replaces what changed on the page, as the tracker tells it. Without this script the page reloads itself.
(() => {
  const link = document.getElementById("link");
  let version = document.body.dataset.version;
  let wait = 1000;

  function replace(id, html) {
    const part = document.getElementById(id);
    if (!part) return;
    // What the reader opened, ticked or stands on stays so.
    const stops = "a, summary, input, select, button, [tabindex]";
    const open = [...part.querySelectorAll("details")].map((each) => each.open);
    const ticked = new Set([...part.querySelectorAll("input:checked")].map((each) => each.value));
    const focus = [...part.querySelectorAll(stops)].indexOf(document.activeElement);
    const scroll = [...part.querySelectorAll("[tabindex]")].map((each) => [each.scrollLeft, each.scrollTop]);
    part.innerHTML = html;
    part.querySelectorAll("details").forEach((each, n) => { if (n in open) each.open = open[n]; });
    part.querySelectorAll("input[type=checkbox]").forEach((each) => { each.checked = ticked.has(each.value); });
    part.querySelectorAll("[tabindex]").forEach((each, n) => { if (n in scroll) each.scrollTo(...scroll[n]); });
    if (focus >= 0) part.querySelectorAll(stops)[focus]?.focus({ preventScroll: true });
  }

  function listen() {
    const url = new URL(location.href);
    url.searchParams.set("since", version);
    const source = new EventSource(url);
    source.onopen = () => { link.textContent = "Live"; };
    source.onmessage = (event) => {
      wait = 1000;
      version = event.lastEventId;
      const { title, ...parts } = JSON.parse(event.data);
      if (title) document.title = `${title} · tunevane`;
      Object.entries(parts).forEach(([id, html]) => replace(id, html));
    };
    source.addEventListener("end", () => { source.close(); link.textContent = ""; });
    source.onerror = () => {
      link.textContent = "Reconnecting …";
      // The browser tries again by itself unless the answer was an error.
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, wait = Math.min(2 * wait, 30000));
    };
  }

  listen();
})();
