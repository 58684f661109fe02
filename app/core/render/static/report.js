"use strict";

function offerCopying() {
  for (const button of document.querySelectorAll("button.copy")) {
    const code = button.parentElement.querySelector("code");
    button.hidden = false;
    button.addEventListener("click", async () => {
      getSelection().selectAllChildren(code);
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    });
  }
}

function openForPrint() {
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details.digest, details.table")) details.open = true;
  });
}

offerCopying();
openForPrint();
