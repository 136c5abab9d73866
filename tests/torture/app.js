const report = {}, port = 'http://127.0.0.1:OTHER', cross = 'http://localhost:OTHER';
const hex = b => [...new Uint8Array(b)].map(x => x.toString(16).padStart(2, '0')).join('');
const sha = async b => hex(await crypto.subtle.digest('SHA-256', b)).slice(0, 16);
const digest = async r => [r.status, r.type, r.redirected, await sha(await r.arrayBuffer())].join(' ');
const LIMIT = 90000;
const told = (name, start) => new Promise(done => {
  const say = value => { clearTimeout(late); report[name] = value; done(value); };
  const late = setTimeout(() => say('silent'), LIMIT);
  Promise.resolve().then(() => start(say)).catch(error => say(error.name));
});
const get = (name, url, options) => told(name, async say => say(await digest(await fetch(url, options))));
const heard = name => told(name, say => { if (name in said) say(said[name]); else said[name] = say; });
const image = id => told('img ' + id, say => {
  const one = document.getElementById(id), now = () => say(one.naturalWidth);
  if (one.complete) now(); else one.onload = one.onerror = now;
});
const made = (name, tag, attributes) => told(name, say => {
  const one = Object.assign(document.createElement(tag), attributes);
  one.onload = () => say('load'); one.onerror = () => say('error');
  document.body.append(one);
});
const body = new FormData();
body.append('a', 'тэкст'); body.append('file', new Blob([new Uint8Array([0, 1, 255])]), 'three.bin');
const work = [
  ...['plain', 'set', 'source', 'gone', 'hopped', 'data', 'far', 'orb'].map(image),
  ...['same', 'port', 'cross', 'nest', 'nested', 'srcdoc', 'object', 'module', 'dynamic', 'posted', 'blob frame'].map(heard),
  get('get', '/api/get'), get('post', '/api/post', {method: 'POST', body: 'дадзеныя=1&b=2'}),
  get('binary', '/api/post?binary', {method: 'POST', body: new Uint8Array([0, 255, 128, 10, 13])}),
  get('form', '/api/length', {method: 'POST', body}),
  ...['PUT', 'PATCH', 'DELETE'].map(method => get(method, '/api/' + method, {method, body: method})),
  get('head', '/api/get', {method: 'HEAD'}), get('options', '/api/options', {method: 'OPTIONS'}),
  get('preflight', port + '/cors', {method: 'PUT', headers: {'X-Own': '1'}, body: 'put'}),
  get('opaque', cross + '/opaque.txt', {mode: 'no-cors'}), get('forbidden', cross + '/forbidden.txt'),
  get('hops', '/hop/1'), get('hop 307', '/hop/307', {method: 'POST', body: 'kept'}), get('manual', '/hop/1?manual', {redirect: 'manual'}),
  get('far hop', '/hop/far'), get('gzip', '/coded/gzip.json'), get('deflate', '/coded/deflate.txt'), get('br', '/coded/br.txt'),
  get('chunked', '/chunked.txt'), get('chunked gzip', '/chunked/gzip.txt'), get('unlengthed', '/unlengthed.txt'), get('empty', '/empty'), get('nothing', '/nothing'),
  get('404', '/api/404'), get('503', '/api/503'), get('cut', '/cut.bin'), get('reset', '/reset'), get('cookie', '/api/cookie'),
  get('partial', '/media/tone.wav?part', {headers: {Range: 'bytes=10-99'}}), get('suffix', '/media/tone.wav?last', {headers: {Range: 'bytes=-50'}}),
  get('unsatisfied', '/media/tone.wav?none', {headers: {Range: 'bytes=99999999-'}}),
  get('big', '/big.bin'), get('huge', '/huge.bin'), get('data', 'data:text/plain,here'),
  get('blob', URL.createObjectURL(new Blob(['blob']))), get('no port', 'http://127.0.0.1:FREE/'),
  told('repeated', async say => { const out = []; for (let n = 0; n < 3; n++) out.push(await (await fetch('/api/count', {cache: 'no-store'})).text()); say(out.join()); }),
  told('cached', async say => { const out = []; for (let n = 0; n < 3; n++) out.push(await (await fetch('/api/fresh')).text()); say(out.join()); }),
  told('etag', async say => { const out = []; for (let n = 0; n < 2; n++) { const r = await fetch('/api/etag', {cache: 'no-cache'}); out.push(r.status + await r.text()); } say(out.join()); }),
  told('stream', async say => {
    const reader = (await fetch('/stream.txt')).body.getReader(); let all = '';
    for (let part; !(part = await reader.read()).done;) all += new TextDecoder().decode(part.value);
    say(all.length + all.slice(-6));
  }),
  told('aborted', async say => {
    const control = new AbortController(), reader = (await fetch('/endless.txt', {signal: control.signal})).body.getReader();
    await reader.read(); control.abort();
    say(await reader.read().then(() => 'read', error => error.name));
  }),
  told('wasm', async say => say((await WebAssembly.instantiateStreaming(fetch('/add.wasm'))).instance.exports.add(2, 3))),
  told('xhr', say => { const x = new XMLHttpRequest(); x.open('GET', '/api/xhr'); x.onloadend = () => say(x.status + x.responseText); x.send(); }),
  told('xhr bytes', say => { const x = new XMLHttpRequest(); x.open('GET', '/api/bytes'); x.responseType = 'arraybuffer'; x.onloadend = async () => say(await sha(x.response)); x.send(); }),
  told('xhr sync', say => { const x = new XMLHttpRequest(); x.open('GET', '/api/sync', false); x.send(); say(x.status + x.responseText); }),
  told('worker', say => { const w = new Worker('/work/classic.js'); w.onmessage = e => say(e.data); }),
  told('module worker', say => { const w = new Worker('/work/module.js', {type: 'module'}); w.onmessage = e => say(e.data); }),
  told('blob worker', say => { const w = new Worker(URL.createObjectURL(new Blob([`fetch('${location.origin}/work/from-blob').then(r => r.text()).then(postMessage)`]))); w.onmessage = e => say(e.data); }),
  told('shared worker', say => { const w = new SharedWorker('/work/shared.js'); w.port.onmessage = e => say(e.data); }),
  told('events', say => { let all = ''; const s = new EventSource('/events'); s.addEventListener('end', () => { s.close(); say(all); }); s.onmessage = e => { all += e.lastEventId + e.data; }; }),
  told('open events', say => { let all = ''; const s = new EventSource('/events/open'); s.onmessage = e => { all += e.data; if (all.length == 2) say(all); }; }),
  told('socket', say => {
    const s = new WebSocket('ws://127.0.0.1:SELF/socket', ['own']); s.binaryType = 'arraybuffer'; let all = '';
    s.onopen = () => { s.send('прывітанне'); s.send(new Uint8Array([0, 200, 255])); s.send('x'.repeat(70000)); };
    s.onmessage = e => { all += typeof e.data == 'string' ? e.data.length : hex(e.data); if (e.data.length == 70000) s.close(4001, 'enough'); };
    s.onclose = e => say([s.protocol, all, e.code, e.wasClean].join());
  }),
  told('no socket', say => { const s = new WebSocket('ws://127.0.0.1:SELF/api/404'); s.onclose = e => say(e.code); }),
  told('service', async say => {
    heard('from service').then(say);
    await navigator.serviceWorker.register('/sw/sw.js');
    const known = await navigator.serviceWorker.getRegistration('/sw/'), worker = known.installing || known.waiting || known.active;
    const go = () => document.body.append(Object.assign(document.createElement('iframe'), {src: '/sw/page.html'}));
    if (worker.state == 'activated') go(); else worker.onstatechange = () => worker.state == 'activated' && go();
  }),
  told('tone', say => { const a = document.getElementById('tone'); if (a.readyState) say(a.duration); else a.onloadedmetadata = () => say(a.duration); }),
  told('film', say => { const v = document.getElementById('film'); const seek = () => { v.currentTime = v.duration - 1; v.onseeked = () => say('sought ' + v.duration); }; if (v.readyState) seek(); else v.onloadedmetadata = seek; }),
  told('face', say => document.fonts.load('12px Own').then(found => say(found.length), error => say(error.name))),
  made('script', 'script', {src: '/late.js'}), made('no script', 'script', {src: '/api/404?script'}),
  made('style', 'link', {rel: 'stylesheet', href: '/css/late.css'}), made('blob image', 'img', {src: URL.createObjectURL(new Blob(['<svg xmlns="http://www.w3.org/2000/svg"/>'], {type: 'image/svg+xml'}))}),
  made('lazy', 'img', {loading: 'eager', src: '/img/lazy.png'}), made('embed', 'embed', {src: '/img/embed.png', type: 'image/png'}),
];
document.getElementById('form').submit();
document.body.append(Object.assign(document.createElement('iframe'), {src: URL.createObjectURL(new Blob(["<script>parent.postMessage({say: 'blob frame', value: 1}, '*')</script>"], {type: 'text/html'}))}));
report.beacon = navigator.sendBeacon('/beacon', 'seen');
report.beacons = navigator.sendBeacon('/beacon?blob', new Blob(['{"a": 1}'], {type: 'text/plain'}));
fetch('/keepalive', {method: 'POST', keepalive: true, body: 'kept'});
addEventListener('pagehide', () => { navigator.sendBeacon('/beacon?left', 'left'); fetch('/keepalive?left', {method: 'POST', keepalive: true, body: 'left'}); });
Promise.all(work).then(() => {
  report.scripts = counted; report.written = self.written; report.color = getComputedStyle(document.querySelector('.pic')).color;
  document.getElementById('report').textContent = JSON.stringify(report, Object.keys(report).sort());
  document.body.dataset.ms = Math.round(performance.now());
  document.title = 'done';
});
