// Decisions on retraining from the monitor's page. The token is kept in the form alone and sent with each decision.
const form = document.getElementById("decide");
const answer = document.getElementById("answer");

async function decide(kind, request) {
  const body = JSON.stringify({ kind, request, reason: form.elements.reason.value });
  const headers = { authorization: `Bearer ${form.elements.token.value.trim()}`, "content-type": "application/json" };
  answer.textContent = "Sending the decision.";
  try {
    const response = await fetch("v1/retraining", { method: "POST", headers, body });
    const found = await response.json();
    answer.textContent = response.ok ? `Recorded: ${found.kind} by ${found.by}.` : found.problem;
    if (response.ok) setTimeout(() => location.reload(), 1500);
  } catch {
    answer.textContent = "The monitor does not answer; nothing was decided. Try again.";
  }
}

for (const button of document.querySelectorAll("button[data-kind]")) {
  button.addEventListener("click", () => decide(button.dataset.kind, button.dataset.request ?? ""));
}
form?.addEventListener("submit", (event) => event.preventDefault());
