// Excerpts on the search page are text, in which a formula would stand as its source.
if (typeof Search !== "undefined") {
  const formula = /\\\[[\s\S]*?\\\]|\\\([\s\S]*?\\\)/g;
  const { htmlToText } = Search;
  Search.htmlToText = (...page) => htmlToText(...page).replace(formula, "…");
}
