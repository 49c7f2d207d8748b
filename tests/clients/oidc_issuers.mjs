// Two OpenID Connect issuers on loopback, by the package oidc-provider, until stdin ends: `inIdToken` writes the roles
// into its ID tokens, `inUserInfo` only into the answers of its user info endpoint. Arguments: the address of the server
// that is the client. It writes {"inIdToken": url, "inUserInfo": url} as one line to stdout.

import { createServer } from "node:http";
import Provider from "oidc-provider";

const [home] = process.argv.slice(2);
const ROLES = { ada: { "*": "admin" }, vic: { default: "viewer" }, odd: { default: "owner" }, nobody: undefined };
const BRIEF_S = 4;

function client(client_id, more = {}) {
  return {
    client_id,
    redirect_uris: [`${home}/auth/callback`],
    post_logout_redirect_uris: [`${home}/`],
    grant_types: ["authorization_code", "refresh_token"],
    token_endpoint_auth_method: "none",
    ...more,
  };
}

function configuration(conformIdTokenClaims) {
  return {
    clients: [
      client("treadle"),
      client("brief"),
      client("brief-without-refresh", { grant_types: ["authorization_code"] }),
      client("with-secret", { client_secret: "a secret of the tests", token_endpoint_auth_method: "client_secret_basic" }),
    ],
    claims: { openid: ["sub", "treadle"] },
    conformIdTokenClaims,
    cookies: { keys: ["a key of the tests"] },
    features: { devInteractions: { enabled: true }, rpInitiatedLogout: { enabled: true }, userinfo: { enabled: true } },
    findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub, treadle: ROLES[sub] }) }),
    issueRefreshToken: async (_, { grantTypes, clientId }) => clientId !== "brief-without-refresh",
    rotateRefreshToken: true,
    ttl: {
      AccessToken: 600,
      IdToken: (_, __, { clientId }) => (clientId.startsWith("brief") ? BRIEF_S : 600),
      RefreshToken: 3600,
      Session: 3600,
      Grant: 3600,
      Interaction: 600,
    },
  };
}

async function serve(conformIdTokenClaims) {
  const server = createServer();
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const issuer = `http://127.0.0.1:${server.address().port}`;
  server.on("request", new Provider(issuer, configuration(conformIdTokenClaims)).callback());
  return issuer;
}

console.warn = () => {};
console.info = () => {};
const issuers = { inIdToken: await serve(false), inUserInfo: await serve(true) };
process.stdout.write(`${JSON.stringify(issuers)}\n`);
process.stdin.resume();
process.stdin.on("end", () => process.exit());
