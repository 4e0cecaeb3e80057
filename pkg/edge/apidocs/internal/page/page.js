'use strict';
// What the page does beyond being read: copy, send requests to this service, choose a language,
// search, and mark the current section. It stores the language of the examples and nothing else.
(() => {
  const element = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  // Only a page from https or this machine may write to the clipboard. Any other page selects the
  // text and copies it.
  const copy = async (code) => {
    if (navigator.clipboard) return navigator.clipboard.writeText(code.textContent);
    getSelection().selectAllChildren(code);
    if (!document.execCommand('copy')) throw new Error('the text is selected, but not copied');
  };
  const addCopy = (code) => {
    const button = element('button', { type: 'button', className: 'copy', textContent: 'Copy' });
    button.addEventListener('click', async () => {
      try {
        await copy(code.querySelector('code'));
        button.textContent = 'Copied';
      } catch {
        button.textContent = 'Not copied';
      }
      setTimeout(() => (button.textContent = 'Copy'), 1500);
    });
    code.append(button);
  };
  document.querySelectorAll('.code').forEach(addCopy);

  const base = location.pathname.replace(/\/docs\/?$/, '');
  const field = (id) => document.getElementById(id).value.trim();
  const credential = () => {
    const token = field('token');
    if (/^(bearer|apikey) /i.test(token)) return token;
    return (token.startsWith('ocelot_') ? 'ApiKey ' : 'Bearer ') + token;
  };

  const requestOf = (form) => {
    let path = form.dataset.path;
    const query = new URLSearchParams();
    const headers = {};
    for (const input of form.querySelectorAll('[data-in]')) {
      const value = input.value.trim();
      if (value === '') continue;
      if (input.dataset.in === 'path') path = path.replace('{' + input.name + '}', encodeURIComponent(value));
      if (input.dataset.in === 'query') query.append(input.name, value);
      if (input.dataset.in === 'header') headers[input.name] = value;
      if (input.dataset.in === 'pair') {
        const cut = value.indexOf('=');
        query.append(value.slice(0, cut < 0 ? value.length : cut), cut < 0 ? '' : value.slice(cut + 1));
      }
    }
    if (form.dataset.secured === 'true' && field('token') !== '') headers.Authorization = credential();
    if (form.dataset.tenant === 'true' && field('tenant') !== '') headers['X-Tenant-ID'] = field('tenant');
    const request = { method: form.dataset.method, headers, cache: 'no-store', credentials: 'omit' };
    const body = form.elements.namedItem('body');
    if (body) {
      headers['Content-Type'] = body.dataset.media;
      request.body = body.value;
    }
    const search = query.toString();
    return [base + path + (search ? '?' + search : ''), request];
  };

  const pretty = (type, text) => {
    if (!/json/.test(type)) return text.length > 20000 ? text.slice(0, 20000) + '\n…' : text;
    // Only a text that survives is laid out. Numbers that a script would round stay as sent.
    try {
      const value = JSON.parse(text);
      return JSON.stringify(value) === text ? JSON.stringify(value, null, 2) : text;
    } catch {
      return text;
    }
  };

  const block = (caption, text) => {
    const pre = element('pre', { tabIndex: 0 }, element('code', { textContent: text }));
    const code = element('div', { className: 'code' }, pre);
    addCopy(code);
    return element('figure', {}, element('figcaption', { textContent: caption }), code);
  };

  const send = async (form) => {
    const output = form.querySelector('output');
    const button = form.querySelector('button');
    button.disabled = true;
    try {
      const [target, request] = requestOf(form);
      const started = performance.now();
      const response = await fetch(target, request);
      const text = await response.text();
      const time = Math.round(performance.now() - started);
      const caption = response.status + ' ' + response.statusText + ' · ' + time + ' ms · request ' + response.headers.get('X-Request-Id');
      output.replaceChildren(block(caption, text ? pretty(response.headers.get('Content-Type') || '', text) : '(no body)'));
    } catch (error) {
      output.replaceChildren(block('No answer', String(error)));
    } finally {
      button.disabled = false;
    }
  };

  for (const form of document.querySelectorAll('form')) {
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      send(form);
    });
  }
  // The language of the examples. If storage is forbidden, the choice lasts as long as the page.
  const chosen = () => {
    try {
      return localStorage.getItem('ocelot-docs-language');
    } catch {
      return null;
    }
  };
  const keep = (language) => {
    try {
      localStorage.setItem('ocelot-docs-language', language);
    } catch {}
  };
  for (const radio of document.querySelectorAll('#language input')) {
    radio.checked ||= radio.value === chosen();
    radio.addEventListener('change', () => keep(radio.value));
  }
  // What was clicked stays where it is, although the examples above it change their height.
  addEventListener('click', (event) => {
    const label = event.target.closest('.languages label');
    if (!label) return;
    const before = label.getBoundingClientRect().top;
    requestAnimationFrame(() => scrollBy({ top: label.getBoundingClientRect().top - before }));
  });

  // The search over operations, chapters and fields. Every word must be in the text of a place.
  const menu = document.getElementById('menu');
  const search = document.getElementById('search');
  const [status, results] = [search.nextElementSibling, search.nextElementSibling.nextElementSibling];
  const title = (place) => place.querySelector('h3, h2').textContent;
  const placeOf = (place) => {
    if (place.matches('tr')) return [place.cells[0].firstChild.textContent, title(place.closest('article')), place.textContent];
    if (!place.matches('article')) return [title(place), 'Chapter', place.textContent];
    const [route, text] = [place.querySelector('.route'), place.querySelector(':scope > p')];
    return [title(place), route ? route.textContent : 'Schema', title(place) + route?.textContent + text?.textContent];
  };
  const places = [...document.querySelectorAll('main article[id], main tr[id], #authentication, #stream-messages, #problems, #versions')].map((place) => {
    const [name, where, text] = placeOf(place);
    return { id: place.id, name, where, text };
  });
  const find = () => {
    const query = search.value.trim().toLowerCase();
    const words = query.split(/\s+/);
    const hasWords = (text) => words.every((word) => text.toLowerCase().includes(word));
    const rank = ({ name }) => (name.toLowerCase() === query ? 0 : hasWords(name) ? 1 : 2);
    const found = query ? places.filter(({ text }) => hasWords(text)).sort((a, b) => rank(a) - rank(b)) : [];
    document.getElementById('contents').hidden = query !== '';
    status.textContent = query && (found.length > 50 ? 'The first 50 of ' + found.length : found.length || 'Nothing') + ' found';
    results.replaceChildren(...found.slice(0, 50).map(({ id, name, where }) =>
      element('li', {}, element('a', { href: '#' + id }, element('b', { textContent: name }), element('span', { textContent: where })))));
  };
  search.parentElement.hidden = false;
  search.addEventListener('input', find);
  search.addEventListener('keydown', (event) => {
    if (event.key === 'Enter') results.querySelector('a')?.click();
  });
  addEventListener('keydown', (event) => {
    if (event.key !== '/' || event.target.matches('input, textarea, select')) return;
    event.preventDefault();
    search.focus();
  });
  menu.addEventListener('click', (event) => {
    if (event.target.closest('a')) menu.hidePopover?.();
  });

  // The menu marks the section at the upper edge of the window.
  const links = new Map([...document.querySelectorAll('#contents a[href^="#"]')].map((link) => [link.hash.slice(1), link]));
  const mark = (id) => {
    for (const link of links.values()) link.removeAttribute('aria-current');
    const link = links.get(id);
    link.setAttribute('aria-current', 'true');
    const { top, bottom } = link.getBoundingClientRect();
    if (top < 70 || bottom > innerHeight) menu.scrollTop += top - innerHeight / 3;
  };
  const observer = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting) mark(target.id);
  }, { rootMargin: '-15% 0px -84% 0px' });
  for (const id of links.keys()) observer.observe(document.getElementById(id));

  // A link to something inside a closed part opens the part.
  const reveal = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    const closed = target && target.closest('details');
    if (closed) closed.open = true;
  };
  addEventListener('hashchange', reveal);
  reveal();
  // The chosen language moved what the address names.
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
})();
