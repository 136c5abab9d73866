importScripts('/sw/imported.js');
addEventListener('install', e => e.waitUntil((async () => { const c = await caches.open('one'); await c.addAll(['/sw/cached.txt', '/sw/cached.png']); await fetch('/sw/install.txt'); skipWaiting(); })()));
addEventListener('activate', e => e.waitUntil((async () => { await fetch('/sw/activate.txt', {method: 'POST', body: 'active'}); await clients.claim(); })()));
addEventListener('fetch', e => {
  const p = new URL(e.request.url).pathname;
  if (p.startsWith('/sw/cached')) e.respondWith(caches.match(e.request));
  else if (p == '/sw/made.txt') e.respondWith(new Response('made'));
  else if (p == '/sw/other.txt') e.respondWith(fetch('/sw/behind.txt'));
  else if (p != '/sw/untouched.txt') e.respondWith(fetch(e.request));
});
