import type { Template } from "./template.ts";

/** What brings a code. */
const code = (words: Template["words"]): Template => ({ params: ["code", "minutes"], words });

const ignoreEn = "If it wasn't you, do nothing: without the code nothing happens.";
const ignoreRu = "Если это были не вы, ничего не делайте: без кода ничего не произойдёт.";
const goodEn = "The code is good for {minutes} minutes, once.";
const goodRu = "Код действует {minutes} минут, один раз.";

export const codeTemplates: Readonly<Record<string, Template>> = {
  "confirm-sign-up": code({
    en: {
      subject: "Your code to sign up",
      letter: ["Welcome! Enter this code to confirm your address:", "{code}", goodEn, ignoreEn],
      sms: "Your code to sign up: {code}. Good for {minutes} minutes.",
    },
    ru: {
      subject: "Код для регистрации",
      letter: ["Добро пожаловать! Введите этот код, чтобы подтвердить адрес:", "{code}", goodRu, ignoreRu],
      sms: "Код для регистрации: {code}. Действует {minutes} минут.",
    },
  }),
  "sign-in-code": code({
    en: {
      subject: "Your code to sign in",
      letter: ["Enter this code to sign in:", "{code}", goodEn, "Tell it to nobody: no one of us ever asks for it.", ignoreEn],
      sms: "Your code to sign in: {code}. Good for {minutes} minutes. Tell it to nobody.",
    },
    ru: {
      subject: "Код для входа",
      letter: ["Введите этот код, чтобы войти:", "{code}", goodRu, "Никому его не сообщайте: мы никогда о нём не спрашиваем.", ignoreRu],
      sms: "Код для входа: {code}. Действует {minutes} минут. Никому его не сообщайте.",
    },
  }),
  "reset-password": code({
    en: {
      subject: "Your code to set a new password",
      letter: ["Enter this code to set a new password:", "{code}", goodEn, ignoreEn],
      sms: "Your code to set a new password: {code}. Good for {minutes} minutes.",
    },
    ru: {
      subject: "Код для смены пароля",
      letter: ["Введите этот код, чтобы задать новый пароль:", "{code}", goodRu, ignoreRu],
      sms: "Код для смены пароля: {code}. Действует {minutes} минут.",
    },
  }),
  "confirm-contact": code({
    en: {
      subject: "Your code to confirm this address",
      letter: ["Enter this code to confirm that this address is yours:", "{code}", goodEn, ignoreEn],
      sms: "Your code to confirm this number: {code}. Good for {minutes} minutes.",
    },
    ru: {
      subject: "Код для подтверждения адреса",
      letter: ["Введите этот код, чтобы подтвердить, что этот адрес ваш:", "{code}", goodRu, ignoreRu],
      sms: "Код для подтверждения номера: {code}. Действует {minutes} минут.",
    },
  }),
  unlock: code({
    en: {
      subject: "Your code to unlock your account",
      letter: [
        "Somebody tried too often to sign in to your account, so it is locked for a while. Enter this code to unlock it now:",
        "{code}",
        goodEn,
        "If it wasn't you who tried, your password is safe still; a longer one would not hurt.",
      ],
      sms: "Your code to unlock your account: {code}. Good for {minutes} minutes.",
    },
    ru: {
      subject: "Код для разблокировки входа",
      letter: [
        "Было слишком много попыток войти в вашу учётную запись, поэтому вход временно закрыт. Введите этот код, чтобы открыть его сейчас:",
        "{code}",
        goodRu,
        "Если пытались не вы, пароль по-прежнему в безопасности; пароль подлиннее не помешает.",
      ],
      sms: "Код для разблокировки входа: {code}. Действует {minutes} минут.",
    },
  }),
};
