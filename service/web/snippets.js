// Commands that repeat a request. The key itself is not written into them: snippets get pasted into chats and tickets.

const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
// A name in curl's form syntax may hold commas and semicolons only within quotes.
const formName = (name) => `"${name.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;

export function curlSnippet({ base, name, url: source, options, keyed }) {
  const url = `${base}v1/classify?${new URLSearchParams(options)}`;
  const key = keyed ? ['-H "Authorization: Bearer $VIDTR_API_KEY"'] : [];
  const json = source && ['-H "Content-Type: application/json"', `-d ${shell(JSON.stringify({ source: { url: source } }))}`];
  return ["curl", ...key, ...(json || [`-F ${shell(`file=@${formName(name)}`)}`]), shell(url)].join(" \\\n  ");
}

export function pythonSnippet({ base, name, url, options, keyed }) {
  // JSON's strings are Python's as well.
  const params = Object.entries(options).map(([option, value]) => `        ${JSON.stringify(option)}: ${JSON.stringify(value)},`);
  const post = (video) => [
    "response = httpx.post(",
    `    ${JSON.stringify(`${base}v1/classify`)},`,
    "    params={",
    ...params,
    "    },",
    `    ${video}`,
    ...(keyed ? ["    headers={\"Authorization\": f\"Bearer {os.environ['VIDTR_API_KEY']}\"},"] : []),
    "    timeout=600,",
    ")",
  ];
  return [
    ...(keyed ? ["import os", ""] : []),
    "import httpx",
    "",
    ...(url ? post(`json={"source": {"url": ${JSON.stringify(url)}}},`) : [
      `with open(${JSON.stringify(name)}, "rb") as video:`,
      ...post('files={"file": video},').map((line) => `    ${line}`),
    ]),
    "response.raise_for_status()",
    "print(response.text)",
  ].join("\n");
}
