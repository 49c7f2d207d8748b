/** Signs in when the server does not know the caller: by its sign-in page if it has one, or by a token. */
import { useState } from "react";
import { signInAddress, useSession } from "./session";

export function SignIn() {
  const [token, setToken] = useState("");
  const signIn = useSession((session) => session.signIn);
  const signInUrl = useSession((session) => session.signInUrl);
  return (
    <main className="view sign-in">
      <form
        className="notice"
        onSubmit={(event) => {
          event.preventDefault();
          if (token.trim()) signIn(token.trim());
        }}
      >
        <h1>Sign in</h1>
        {signInUrl !== undefined && (
          <p>
            <a href={signInAddress(signInUrl)}>Sign in with your account</a>
          </p>
        )}
        <p>This server asks who you are. Paste an access token or an API key. It stays in this browser tab.</p>
        <label htmlFor="token">Token</label>
        <input id="token" type="password" autoComplete="off" value={token} onChange={(event) => setToken(event.target.value)} />
        <button type="submit" className="primary" disabled={!token.trim()}>
          Sign in
        </button>
      </form>
    </main>
  );
}
