'use strict';
// The page's own forms: each sends its request to this service and shows the answer. The page keeps the
// language of the examples beyond its end, and nothing else.
(() => {
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
    // Numbers that a script would round are shown as they were sent: only text that survives is laid out.
    try {
      const value = JSON.parse(text);
      return JSON.stringify(value) === text ? JSON.stringify(value, null, 2) : text;
    } catch {
      return text;
    }
  };

  const block = (caption, text) => {
    const figure = document.createElement('figure');
    figure.append(Object.assign(document.createElement('figcaption'), { textContent: caption }));
    const pre = Object.assign(document.createElement('pre'), { tabIndex: 0 });
    pre.append(Object.assign(document.createElement('code'), { textContent: text }));
    figure.append(pre);
    return figure;
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
  // The language of the examples. Storage can be forbidden: then the choice lasts as long as the page.
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
    requestAnimationFrame(() => scrollBy({ top: label.getBoundingClientRect().top - before, behavior: 'instant' }));
  });

  // A link to an operation opens nothing by itself; a link to something inside a closed part opens it.
  const reveal = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    const closed = target && target.closest('details');
    if (closed) closed.open = true;
  };
  addEventListener('hashchange', reveal);
  reveal();
})();
