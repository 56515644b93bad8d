'use strict';
(function () {
  var wanted = location.pathname + location.search;
  var fragment = location.hash.replace(/\\/g, '%5C');
  if (wanted.length + fragment.length <= 2048) wanted += fragment;
  location.replace('/oauth2/login?rd=' + encodeURIComponent(wanted));
})();
