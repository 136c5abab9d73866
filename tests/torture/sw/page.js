(async () => {
  const out = [];
  for (const p of ['/sw/cached.txt', '/sw/made.txt', '/sw/other.txt', '/sw/passed.txt', '/sw/untouched.txt', '/sw/redirected']) { const r = await fetch(p); out.push(r.status + await r.text()); }
  const r = await fetch('/api/post?controlled', {method: 'POST', body: 'controlled'}); out.push(await r.text());
  const i = document.getElementById('i'); if (!i.complete) await new Promise(d => { i.onload = i.onerror = d; });
  parent.postMessage({say: 'from service', value: [...out, i.naturalWidth].join()}, '*');
})();
