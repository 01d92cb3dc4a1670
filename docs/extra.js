// Tables and code that are wider than the page scroll; those that do can be reached by the keyboard.
const SCROLLING = ".md-typeset__scrollwrap, .md-typeset pre > code";
const mark = (box) => {
  const scrolls = box.scrollWidth > box.clientWidth;
  if (scrolls && box.getAttribute("tabindex") !== "0") box.setAttribute("tabindex", "0");
  if (!scrolls && box.hasAttribute("tabindex")) box.removeAttribute("tabindex");
};
const sizes = new ResizeObserver((entries) => entries.forEach((entry) => mark(entry.target)));
// The theme puts tables into their box, and buttons beside code, when the page has loaded; and it takes the
// index from code again.
const watch = () => {
  document.querySelectorAll(SCROLLING).forEach((box) => sizes.observe(box));
  document.querySelectorAll(".md-code__nav").forEach((nav, index) => {
    if (!nav.hasAttribute("aria-label")) nav.setAttribute("aria-label", `Code ${index + 1}`);
  });
};
new MutationObserver((changes) => {
  for (const { type, target } of changes) if (type === "attributes" && target.matches(SCROLLING)) mark(target);
  if (changes.some(({ type }) => type === "childList")) watch();
}).observe(document.body, { childList: true, subtree: true, attributeFilter: ["tabindex"] });
watch();
document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
