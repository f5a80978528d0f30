// Shows the service's own OpenAPI document. Addresses are relative, so that the page works behind any prefix.

const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", paint);
paint();

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  tryItOutEnabled: true,
  // The badge of a validator would send the document's address to another host.
  validatorUrl: null,
});
