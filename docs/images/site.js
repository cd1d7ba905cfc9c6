// Code and tables that are wider than the window can be scrolled with the keyboard.
function focusWide() {
  for (const part of document.querySelectorAll("pre > code, .md-typeset__scrollwrap")) {
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0
    else part.removeAttribute("tabindex")
  }
}
addEventListener("load", focusWide)
addEventListener("resize", focusWide)
