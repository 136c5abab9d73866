importScripts('/work/imported.js');
(async () => {
  const out = [imported];
  for (const path of ['/work/a.txt', '/work/b.txt?' + Math.floor(1.5)]) out.push(await (await fetch(path)).text());
  out.push(await (await fetch('/api/post?worker', {method: 'POST', body: 'from a worker'})).text());
  const x = new XMLHttpRequest(); x.open('GET', '/work/xhr.txt', false); x.send(); out.push(x.responseText);
  const s = new WebSocket('ws://' + location.host + '/socket');
  s.onopen = () => s.send('worker'); s.onmessage = e => { out.push(e.data); s.close(); };
  s.onclose = () => { const inner = new Worker('/work/inner.js'); inner.onmessage = e => postMessage([...out, e.data].join()); };
})();
