// Runs in MLflow's page, before MLflow's own script: "Account" and "Sign out" in the sidebar, a banner when the session
// has ended, and no Assistant where it is closed. The user's name is already in MLflow's sidebar.
'use strict';
(() => {
  const MAX_RETURN_PATH = 2048;
  // Of the gate only: MLflow's own 401 has another realm.
  const GATE_CHALLENGE = 'Bearer realm="oidc-gate"';
  const ASSISTANT_CONFIG = /\/mlflow\/assistant\/config$/;

  const ITEMS_STYLE = `
    .oidc-gate-items { container-type: inline-size; margin-top: 4px; }
    .oidc-gate-items form { margin: 0; }
    .oidc-gate-items :is(a, button) {
      box-sizing: border-box; display: flex; align-items: center; gap: 8px; width: 100%; min-height: 32px;
      padding: 6px 8px; border: 0; border-radius: 4px; background: none; color: inherit; font: inherit;
      text-align: start; text-decoration: none; cursor: pointer;
    }
    .oidc-gate-items :is(a, button):hover { background: rgba(127, 127, 127, 0.18); }
    .oidc-gate-items :is(a, button):focus-visible { outline: 2px solid currentColor; outline-offset: -2px; }
    .oidc-gate-items svg { flex: none; }
    @container (max-width: 80px) {
      .oidc-gate-items :is(a, button) { justify-content: center; }
      .oidc-gate-items span { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
    }
    .oidc-gate-banner {
      position: fixed; top: 12px; left: 50%; transform: translateX(-50%); z-index: 2147483647; pointer-events: auto;
      box-sizing: border-box; display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: center;
      justify-content: center; width: max-content; max-width: calc(100vw - 24px); padding: 12px 20px;
      border: 1px solid #8a97a3; border-radius: 8px; background: #1c2733; color: #fff; font-size: 14px;
      line-height: 20px; box-shadow: 0 4px 16px rgba(0, 0, 0, 0.35);
    }
    .oidc-gate-banner a { color: #8fcbff; font-weight: 600; text-decoration: underline; }
    .oidc-gate-banner a:focus-visible { outline: 2px solid #fff; outline-offset: 3px; }`;
  const ASSISTANT_STYLE = `
    [data-assistant-ui="true"], [data-component-id^="mlflow.experiment_side_nav.assistant_"] {
      display: none !important;
    }`;

  // A policy for styles in the page does not apply to these.
  function addStyle(text) {
    const style = new CSSStyleSheet();
    style.replaceSync(text);
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, style];
    return style;
  }

  function element(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  function icon(path) {
    const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    const attributes = { viewBox: '0 0 16 16', width: 16, height: 16, fill: 'none', stroke: 'currentColor' };
    for (const [name, value] of Object.entries({ ...attributes, 'stroke-width': 1.5, 'aria-hidden': true })) {
      svg.setAttribute(name, value);
    }
    const line = document.createElementNS('http://www.w3.org/2000/svg', 'path');
    line.setAttribute('d', path);
    svg.append(line);
    return svg;
  }

  function makeItems() {
    const person = 'M8 8a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM2.5 14c.4-2.6 2.6-4 5.5-4s5.1 1.4 5.5 4Z';
    const door = 'M10 2.5H3v11h7M6.5 8H14M11.5 5.5 14 8l-2.5 2.5';
    const account = element('a', { href: '/oauth2/account', title: 'Your account and your sessions' });
    account.append(icon(person), element('span', {}, 'Account'));
    const button = element('button', { type: 'submit', title: 'Sign out' });
    button.append(icon(door), element('span', {}, 'Sign out'));
    const form = element('form', { method: 'post', action: '/oauth2/logout' }, button);
    return element('div', { className: 'oidc-gate-items' }, account, form);
  }

  function signInAddress() {
    let wanted = location.pathname + location.search;
    const fragment = location.hash.replace(/\\/g, '%5C');
    if (wanted.length + fragment.length <= MAX_RETURN_PATH) wanted += fragment;
    return '/oauth2/login?rd=' + encodeURIComponent(wanted);
  }

  let banner;

  function showEnded() {
    if (banner) return;
    const link = element('a', { href: signInAddress() }, 'Sign in again');
    // The page may have gone on to another `#/…` since.
    for (const event of ['pointerdown', 'focus', 'click']) {
      link.addEventListener(event, () => { link.href = signInAddress(); });
    }
    banner = element('div', { className: 'oidc-gate-banner', role: 'alert' });
    banner.append(element('span', {}, 'Your session has ended.'), link);
    document.body.append(banner);
  }

  // Unknown until MLflow has asked for its settings.
  let assistantClosed;

  function look(status, address, header) {
    if (!address.startsWith(location.origin + '/')) return;
    if (status === 401 && header('www-authenticate') === GATE_CHALLENGE) showEnded();
    if ((status === 200 || status === 403) && ASSISTANT_CONFIG.test(new URL(address).pathname)) {
      assistantClosed = status === 403;
      assistantStyle.disabled = !assistantClosed;
      tidySoon();
    }
  }

  const plainFetch = window.fetch;
  window.fetch = function fetch(...request) {
    return plainFetch.apply(this, request).then((response) => {
      look(response.status, response.url, (name) => response.headers.get(name));
      return response;
    });
  };

  const plainSend = XMLHttpRequest.prototype.send;
  XMLHttpRequest.prototype.send = function send(...body) {
    const seen = () => look(this.status, this.responseURL, (name) => this.getResponseHeader(name));
    this.addEventListener('load', seen, { once: true });
    return plainSend.apply(this, body);
  };

  // MLflow loads parts of its page later. When one fails, only asking again tells why.
  window.addEventListener('error', ({ target }) => {
    const isPart = target instanceof HTMLScriptElement || target instanceof HTMLLinkElement;
    const address = isPart && (target.src || target.href);
    if (address) window.fetch(address, { method: 'HEAD' }).catch(() => {});
  }, true);

  const items = makeItems();
  let pressed;

  function tidy() {
    // At the end of the sidebar's last group, below the user's name. React puts what it adds behind them.
    const nav = document.querySelector('aside nav');
    const last = nav && nav.lastElementChild;
    const group = last && last.tagName === 'DIV' && last !== items ? last : nav;
    if (group && group.lastElementChild !== items) group.append(items);
    // A closed Assistant opens its panel by itself at the first visit, and other panels then leave room for it.
    const close = assistantClosed && document.querySelector('[data-component-id="mlflow.assistant.chat_panel.close"]');
    if (close && close !== pressed) {
      pressed = close;
      close.click();
    }
  }

  // Once a frame, however often React changes the page.
  let waiting = false;

  function tidySoon() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      tidy();
    });
  }

  addStyle(ITEMS_STYLE);
  const assistantStyle = addStyle(ASSISTANT_STYLE);
  new MutationObserver(tidySoon).observe(document.body, { childList: true, subtree: true });
  tidySoon();
})();
