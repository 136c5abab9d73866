(async () => {
  const name = location.search.slice(1), out = [];
  const one = document.getElementById('i');
  if (!one.complete) await new Promise(done => { one.onload = one.onerror = done; });
  out.push(one.naturalWidth);
  for (const path of ['/api/get?' + name, '/api/post?' + name]) {
    const answer = await fetch(path, path.includes('post') ? {method: 'POST', body: name} : {});
    out.push(answer.status + await answer.text());
  }
  if (name == 'nest') document.body.append(Object.assign(document.createElement('iframe'), {src: 'http://127.0.0.1:OTHER/frame.html?nested'}));
  if (name == 'cross') await new Promise(done => { const w = new Worker('/work/classic.js'); w.onmessage = e => { out.push(e.data); done(); }; });
  top.postMessage({say: name, value: out.join()}, '*');
})();
