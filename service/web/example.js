// The video that the service makes itself, for visitors who have none at hand.

import { get } from "./api.js";

export async function exampleVideo() {
  const response = await get("example.webm");
  return new File([await response.blob()], "example.webm", { type: "video/webm" });
}
