// Runs in a world of its own beside the page's scripts: it reads the page's DOM, changes nothing in it, and they do not see it.
// What a page puts in the way of names (a form's field called "closest") is passed by: every method is taken from its prototype.
(() => {
  'use strict';
  const MOST_LOOKED_AT = 20000, MOST_LETTERS = 80, STILL_FRAMES = 6;
  const done = new WeakSet(), seen = new WeakSet();
  let aimed = null, started = [], home = null;

  const all = (root, selector) => (root instanceof Document ? Document : root instanceof DocumentFragment ? DocumentFragment : Element).prototype.querySelectorAll.call(root, selector);
  const one = selector => Document.prototype.querySelector.call(document, selector);
  const closest = (el, selector) => Element.prototype.closest.call(el, selector);
  const attribute = (el, name) => Element.prototype.getAttribute.call(el, name);
  const box = el => Element.prototype.getBoundingClientRect.call(el);
  const root = () => document.scrollingElement || document.documentElement;
  const frame = () => new Promise(go => { const t = setTimeout(go, 100); requestAnimationFrame(() => { clearTimeout(t); setTimeout(go, 0); }); });
  const frames = async n => { while (n-- > 0) await frame(); };
  const elements = () => document.getElementsByTagName('*').length;

  const plain = text => String(text || '').slice(0, 1000).normalize('NFC').toLowerCase().replace(/\s+/g, ' ').replace(/’/g, "'").replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, '');
  const textOf = el => { const text = el instanceof HTMLInputElement ? el.value : el.textContent; return text && text.length <= 400 ? text : ''; };
  const label = el => plain(textOf(el)) || plain(attribute(el, 'aria-label')) || plain(attribute(el, 'title'));
  const toldOf = el => ` ${['aria-label', 'title', 'value', 'name'].map(name => plain(attribute(el, name))).join(' ')} ${plain(textOf(el))} `;
  const described = el => {
    const id = attribute(el, 'id'), kind = (attribute(el, 'class') || '').trim().split(/\s+/).filter(Boolean).slice(0, 2);
    return `${el.localName}${id ? '#' + id : ''}${kind.map(name => '.' + name).join('')}`.slice(0, 120) + ` "${label(el).slice(0, MOST_LETTERS)}"`;
  };

  const visible = el => {
    if (!el.isConnected || !Element.prototype.checkVisibility.call(el, {opacityProperty: true, visibilityProperty: true})) return false;
    const {width, height} = box(el);
    return width >= 4 && height >= 4;
  };
  const rendered = el => el.isConnected && Element.prototype.getClientRects.call(el).length > 0;
  const composed = el => el.parentElement || (el.getRootNode() instanceof ShadowRoot ? el.getRootNode().host : null);
  const over = el => {
    for (let at = el; at; at = composed(at)) {
      if (at.localName === 'dialog' || attribute(at, 'role') === 'dialog' || attribute(at, 'role') === 'alertdialog' || attribute(at, 'aria-modal') === 'true') return true;
      if (at !== document.body && at !== document.documentElement && /^(fixed|sticky)$/.test(getComputedStyle(at).position)) return true;
    }
    return false;
  };
  const inside = (el, selectors) => {
    for (const selector of selectors) {
      let at = el;
      while (at) {
        const found = closest(at, selector);
        if (found && found !== document.body && found !== document.documentElement) return true;
        at = at.getRootNode() instanceof ShadowRoot ? at.getRootNode().host : null;
      }
    }
    return false;
  };

  // Why a click here could leave the page or send something; '' where it could not.
  const leaves = (el, known) => {
    const link = closest(el, 'a, area');
    if (link) {
      const href = (attribute(link, 'href') ?? attribute(link, 'xlink:href') ?? '#').trim(), target = attribute(link, 'target');
      if (Element.prototype.hasAttribute.call(link, 'download')) return 'a download';
      if (target && target !== '_self') return 'a link to another window';
      if (/^javascript:/i.test(href)) { if (!/^javascript:\s*(void\s*\(?\s*0\s*\)?)?\s*;*\s*$/i.test(href)) return 'a link with a script'; }
      else if (!href.startsWith('#')) return 'a link to another document';
      else if (new URL(href, document.baseURI).href.split('#')[0] !== location.href.split('#')[0]) return 'a link to another document';
    }
    const button = closest(el, 'button, input, select, textarea, label, option');
    if (button) {
      const type = (attribute(button, 'type') || (button.localName === 'button' ? 'submit' : 'text')).toLowerCase();
      const form = closest(button, 'form') || Element.prototype.hasAttribute.call(button, 'form');
      if (button.localName === 'button' ? form && (type !== 'button' || !known) : !(button.localName === 'input' && type === 'button' && !form)) return 'part of a form';
    } else if (!known && closest(el, 'form')) return 'part of a form';
    return '';
  };

  const fits = (text, words) => {
    if (!text || text.length > MOST_LETTERS) return false;
    const bare = text.replace(/[\s(]*\d[\d\s.,+)]*$/, '');
    return words.some(word => word.endsWith('*') ? (text + ' ').startsWith(word.slice(0, -1) + ' ') : text === word || bare === word);
  };
  const forbidden = (el, ask) => {
    const told = toldOf(el), text = label(el);
    if (ask.never.some(word => told.includes(' ' + word))) return 'its text';
    if ((ask.unless || []).some(word => text.startsWith(word))) return 'it agrees';
    if (inside(el, ask.neverWithin || [])) return 'where it stands';
    if (attribute(el, 'aria-expanded') === 'true') return 'it is open';
    if (attribute(el, 'aria-disabled') === 'true' || closest(el, ':disabled')) return 'it is disabled';
    return leaves(el, ask.known);
  };
  const rootsOf = shadow => [document, ...shadow.flatMap(host => [...all(document, host)].map(el => el.shadowRoot).filter(Boolean))];

  globalThis.osint = {
    // Which rules have what they need on this page, and how tall it is.
    probe(rules) {
      const there = (rule, selector, lies) => {
        for (const el of [...all(document, selector)].slice(0, rule.visible ? 50 : 1)) {
          if (!rule.visible || ((visible(el) || (rule.shadow.length && el.shadowRoot && [...el.shadowRoot.querySelectorAll('button')].some(visible))) && (!lies || (el !== document.body && el !== document.documentElement && over(el))))) return selector;
        }
        return null;
      };
      const found = {};
      for (const rule of rules) {
        try {
          const hit = rule.present.map(selector => there(rule, selector, false)).concat(rule.overlays.map(selector => there(rule, selector, true))).find(Boolean);
          if (hit || !(rule.present.length + rule.overlays.length)) found[rule.name] = hit || '';
        } catch (error) { found[rule.name] = `bad: ${String(error).slice(0, 200)}`; }
      }
      return {found, scripts: document.scripts.length > 0, ...this.where()};
    },
    has: selectors => !selectors.length || selectors.some(one),
    frame,

    // Find the next element to be clicked.
    seek(ask) {
      let looked = 0, why = null;
      const inner = (ask.within || []).concat(ask.overlays || []);
      for (const place of rootsOf(ask.shadow || [])) {
        for (const el of all(place, ask.candidates.join(','))) {
          if (++looked > MOST_LOOKED_AT) return {capped: true, why};
          if (done.has(el) || (ask.words && !fits(label(el), ask.words)) || !visible(el)) continue;
          if (ask.words && inner.length && !((ask.within || []).length && inside(el, ask.within)) && !((ask.overlays || []).length && inside(el, ask.overlays) && over(el))) continue;
          const no = forbidden(el, ask);
          if (no) { why ||= `${described(el)}: not clicked (${no})`; continue; }
          aimed = el;
          return {where: described(el)};
        }
      }
      return {why};
    },
    // Bring what was found into view and give the point to be clicked, or why it is not.
    async aim(ask) {
      const el = aimed;
      done.add(el);
      let now = box(el);
      if (now.top < 0 || now.bottom > innerHeight) { el.scrollIntoView({block: 'center', inline: 'nearest', behavior: 'instant'}); await frame(); now = box(el); }
      for (let left = STILL_FRAMES; ; left--) {
        const before = now;
        await frame();
        now = box(el);
        if (before.x === now.x && before.y === now.y) break;
        if (!left) return {why: 'it does not stand still'};
      }
      if (!visible(el)) return {why: 'it went away'};
      const no = forbidden(el, ask);
      if (no) return {why: no};
      const x = now.x + now.width / 2, y = now.y + now.height / 2;
      let hit = document.elementFromPoint(x, y);
      while (hit && hit.shadowRoot && hit.shadowRoot.elementFromPoint(x, y) && hit !== hit.shadowRoot.elementFromPoint(x, y)) hit = hit.shadowRoot.elementFromPoint(x, y);
      for (let at = hit; at; at = composed(at)) if (at === el) return leaves(hit, ask.known) ? {why: 'a link or a form lies in it'} : {x, y};
      return {why: hit ? `${described(hit)} lies over it` : 'it is out of view'};
    },
    size: () => ({elements: elements(), height: root().scrollHeight, letters: root().textContent.length}),
    // After a click: whether the page changed. What brought more may be clicked again.
    changed(before) {
      const now = this.size();
      if (now.elements > before.elements && aimed) done.delete(aimed);
      return now.elements !== before.elements || now.height !== before.height || now.letters !== before.letters;
    },

    // Where the page, or the part of it that scrolls in its place, stands.
    scroller() {
      const page = root();
      if (page.scrollHeight > page.clientHeight + 1) return page;
      for (let at = document.elementFromPoint(innerWidth / 2, innerHeight / 2); at; at = composed(at)) {
        if (at.scrollHeight > at.clientHeight + 1 && at.clientHeight >= innerHeight / 2 && /auto|scroll/.test(getComputedStyle(at).overflowY)) return at;
      }
      return page;
    },
    where() {
      const el = this.scroller();
      home ||= {el, top: el.scrollTop};
      return {top: el.scrollTop, view: el.clientHeight, height: el.scrollHeight, whole: el === root()};
    },
    async move(by) {
      const el = this.scroller(), before = el.scrollTop;
      el.scrollBy({top: by, behavior: 'instant'});
      const moved = Math.abs(el.scrollTop - before);
      await frame();
      return {moved, ...this.where()};
    },
    back() { if (home && home.el.isConnected) home.el.scrollTo({top: home.top, behavior: 'instant'}); return frame(); },

    // Bring the next view with something that is loaded late into view.
    pending(el) {
      const data = ['data-src', 'data-lazy-src', 'data-original'].map(name => attribute(el, name)).find(Boolean);
      if (!(el instanceof HTMLImageElement)) return el instanceof HTMLIFrameElement || (data && !attribute(el, 'src')) || !!attribute(el, 'data-bg');
      return !el.complete || !el.currentSrc || el.naturalWidth <= 1 || (!!data && !el.currentSrc.endsWith(data.split('/').pop()) && el.currentSrc.startsWith('data:'));
    },
    async reveal(selectors) {
      let shown = 0;
      const late = [...all(document, selectors.join(','))].slice(0, MOST_LOOKED_AT).filter(el => !seen.has(el) && rendered(el) && this.pending(el));
      if (!late.length) return {shown, left: 0};
      late[0].scrollIntoView({block: 'start', inline: 'nearest', behavior: 'instant'});
      await frame();
      for (const el of late) { const {top, bottom} = box(el); if (el === late[0] || (top < innerHeight && bottom > 0)) { seen.add(el); shown++; } }
      return {shown, left: late.length - shown};
    },
    unseen(selectors) { return [...all(document, selectors.join(','))].slice(0, MOST_LOOKED_AT).filter(el => rendered(el) && el instanceof HTMLImageElement && this.pending(el)).length; },

    // Play without sound; `played` tells how many have not all that they asked for.
    play(selectors, most) {
      const still = [...all(document, selectors.join(','))].filter(el => el instanceof HTMLMediaElement && el.paused && !el.ended && (el.currentSrc || el.src || all(el, 'source').length)).slice(0, most);
      for (const el of still) { el.muted = true; Promise.resolve(el.play()).catch(() => 0); started.push(el); }
      return still.length;
    },
    played() {
      const whole = el => el.ended || el.error || el.networkState === 3 || (el.readyState >= 3 && el.networkState === 1 && el.currentTime > 0);
      return {waiting: started.filter(el => el.isConnected && !whole(el)).length, failed: started.filter(el => el.error || el.networkState === 3).length, seconds: started.map(el => Math.round(el.currentTime * 10) / 10)};
    },
    pause() { for (const el of started) el.pause(); },
  };
})();
